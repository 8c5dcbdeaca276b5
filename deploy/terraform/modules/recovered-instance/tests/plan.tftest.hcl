# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../shared/mocks"
}

variables {
  shard                     = "orders"
  recovery_id               = "r1"
  primary_availability_zone = "eu-central-1a"
  availability_zone         = "eu-central-1b"
  subnet_id                 = "subnet-0123456789abcdef0"
  security_group_ids        = ["sg-0123456789abcdef0"]
  ami_id                    = "ami-0123456789abcdef0"
  instance_type             = "r7i.xlarge"
  volumes                   = [{ device_name = "/dev/sdf", snapshot_id = "snap-0123456789abcdef0" }]
}

run "an_instance_in_another_zone" {
  assert {
    condition     = aws_ebs_volume.mysql["/dev/sdf"].availability_zone == "eu-central-1b" && aws_ebs_volume.mysql["/dev/sdf"].encrypted
    error_message = "The volume is in another zone, or not encrypted."
  }
  assert {
    condition     = aws_ebs_volume.mysql["/dev/sdf"].snapshot_id == "snap-0123456789abcdef0" && aws_ebs_volume.mysql["/dev/sdf"].volume_initialization_rate == null
    error_message = "The volume is not of the snapshot, or has an initialization rate that was not set."
  }
  assert {
    condition     = aws_instance.mysql.metadata_options[0].http_tokens == "required" && aws_instance.mysql.disable_api_termination
    error_message = "The instance's credentials can be stolen with a forged request, or it can be terminated by mistake."
  }
  assert {
    condition     = aws_instance.mysql.tags["MySQL-Host"] == "10.1.2.3:3306" && aws_instance.mysql.tags["Backstop-Recovery"] == "r1"
    error_message = "Backstop cannot find the instance by its tags."
  }
  assert {
    condition     = yamldecode(output.ansible_inventory).mysql.hosts["orders-r1"].backstop_volumes[0].device_name == "/dev/sdf"
    error_message = output.ansible_inventory
  }
}

run "ansible_connects_by_ssh" {
  assert {
    condition     = yamldecode(output.ansible_inventory).mysql.hosts["orders-r1"].backstop_connection == "ssh"
    error_message = output.ansible_inventory
  }
  assert {
    condition     = aws_instance.mysql.user_data == null
    error_message = "The user data might hold a host key."
  }
}

run "the_same_recovery_again_changes_nothing" {
  assert {
    condition     = output.volume_ids == run.an_instance_in_another_zone.volume_ids
    error_message = "The data volume was replaced."
  }
}

run "another_snapshot_in_the_same_state_is_refused" {
  command = plan
  variables {
    volumes = [{ device_name = "/dev/sdf", snapshot_id = "snap-0fedcba9876543210" }]
  }
  expect_failures = [aws_ebs_volume.mysql]
}

run "another_recovery_in_the_same_state_is_refused" {
  command = plan
  variables {
    recovery_id = "r2"
  }
  expect_failures = [aws_ebs_volume.mysql]
}

run "another_image_replaces_nothing" {
  variables {
    ami_id = "ami-0fedcba9876543210"
  }
  assert {
    condition     = output.instance_id == run.an_instance_in_another_zone.instance_id
    error_message = "A newer image replaced the database server."
  }
}

run "the_primarys_own_zone" {
  command = plan
  variables {
    primary_availability_zone = "eu-central-1b"
  }
  expect_failures = [var.availability_zone]
}

run "the_primarys_own_zone_if_allowed" {
  variables {
    primary_availability_zone = "eu-central-1b"
    allow_same_zone           = true
  }
  assert {
    condition     = output.volume_ids == run.an_instance_in_another_zone.volume_ids
    error_message = "The primary moved, and the data volume was replaced."
  }
}

run "a_subnet_elsewhere" {
  command = plan
  override_data {
    target = data.aws_subnet.instance
    values = { availability_zone = "eu-central-1c" }
  }
  expect_failures = [aws_instance.mysql]
}

run "an_unproven_snapshot" {
  command = plan
  override_data {
    target = data.aws_ebs_snapshot.volume
    values = { state = "completed", volume_size = 100, tags = { Cluster-name = "orders", Backstop-State = "unproven", Backstop-Run = "x" } }
  }
  expect_failures = [data.aws_ebs_snapshot.volume]
}

run "a_snapshot_of_another_shard" {
  command = plan
  override_data {
    target = data.aws_ebs_snapshot.volume
    values = { state = "completed", volume_size = 100, tags = { Cluster-name = "customers", Backstop-State = "proven", Backstop-Run = "x" } }
  }
  expect_failures = [data.aws_ebs_snapshot.volume]
}

run "a_pending_snapshot" {
  command = plan
  override_data {
    target = data.aws_ebs_snapshot.volume
    values = { state = "pending", volume_size = 100, tags = { Cluster-name = "orders", Backstop-State = "proven", Backstop-Run = "x" } }
  }
  expect_failures = [data.aws_ebs_snapshot.volume]
}

run "one_snapshot_of_a_set_of_two" {
  command = plan
  override_data {
    target = data.aws_ebs_snapshot.volume
    values = { state = "completed", volume_size = 100, tags = { Cluster-name = "orders", Backstop-State = "proven", Backstop-Run = "x", Backstop-Set = "2" } }
  }
  expect_failures = [data.aws_ebs_snapshot.volume]
}

run "too_small" {
  command = plan
  variables {
    volumes = [{ device_name = "/dev/sdf", snapshot_id = "snap-0123456789abcdef0", size_gib = 99 }]
  }
  expect_failures = [data.aws_ebs_snapshot.volume]
}

run "two_snapshots_of_two_backups" {
  command = plan
  variables {
    volumes = [
      { device_name = "/dev/sdf", snapshot_id = "snap-0123456789abcdef0" },
      { device_name = "/dev/sdg", snapshot_id = "snap-0123456789abcdef1" },
    ]
  }
  override_data {
    target = data.aws_ebs_snapshot.volume["/dev/sdf"]
    values = { state = "completed", volume_size = 100, tags = { Cluster-name = "orders", Backstop-State = "proven", Backstop-Run = "x", Backstop-Set = "2" } }
  }
  override_data {
    target = data.aws_ebs_snapshot.volume["/dev/sdg"]
    values = { state = "completed", volume_size = 100, tags = { Cluster-name = "orders", Backstop-State = "proven", Backstop-Run = "y", Backstop-Set = "2" } }
  }
  expect_failures = [aws_ebs_volume.mysql]
}

run "pruned_snapshots" {
  command = plan
  variables {
    check_snapshots = false
    protected       = false
  }
  assert {
    condition     = length(data.aws_ebs_snapshot.volume) == 0
    error_message = "A later plan still needs the snapshots."
  }
}

run "bad_device" {
  command = plan
  variables {
    volumes = [{ device_name = "/dev/nvme1n1", snapshot_id = "snap-0123456789abcdef0" }]
  }
  expect_failures = [var.volumes]
}

run "bad_rate" {
  command = plan
  variables {
    initialization_rate_mibs = 50
  }
  expect_failures = [var.initialization_rate_mibs]
}

run "bad_tags" {
  command = plan
  variables {
    extra_tags = { MySQL-Host = "db1" }
  }
  expect_failures = [var.extra_tags]
}

run "session_manager_without_a_profile" {
  command = plan
  variables {
    connection = "ssm"
  }
  expect_failures = [var.connection]
}

run "session_manager_with_a_profile" {
  command = plan
  variables {
    connection       = "ssm"
    instance_profile = "databases"
  }
}

run "mount_points_go_by_the_volume" {
  state_key = "two volumes"
  variables {
    check_snapshots = false
    volumes = [
      { device_name = "/dev/sdg", snapshot_id = "snap-0123456789abcdef1", type = "gp2", iops = 3000, mount_points = ["/var/lib/mysql-binlog"] },
      { device_name = "/dev/sdf", snapshot_id = "snap-0123456789abcdef0", type = "io2", iops = 40000, throughput_mib = 1000, size_gib = 200, mount_points = ["/var/lib/mysql"] },
    ]
  }
  assert {
    condition = { for one in yamldecode(output.ansible_inventory).mysql.hosts["orders-r1"].backstop_volumes : one.snapshot_id => one.mount_points } == {
      snap-0123456789abcdef0 = ["/var/lib/mysql"]
      snap-0123456789abcdef1 = ["/var/lib/mysql-binlog"]
    }
    error_message = output.ansible_inventory
  }
  assert {
    condition = (
      aws_ebs_volume.mysql["/dev/sdf"].type == "io2" && aws_ebs_volume.mysql["/dev/sdf"].iops == 40000 && aws_ebs_volume.mysql["/dev/sdf"].size == 200 &&
      local.volumes["/dev/sdf"].throughput_mib == null && local.volumes["/dev/sdg"].iops == null
    )
    error_message = "A volume lacks a fact of its source, or has one that EC2 refuses for its type."
  }
  assert {
    condition     = length(aws_ebs_fast_snapshot_restore.mysql) == 0 && length(aws_iam_role.instance) == 0
    error_message = "Something that costs, or a role, is made unasked."
  }
}

run "snapshots_are_restored_fast_in_named_zones" {
  state_key = "fast"
  variables {
    fast_restore_zones = ["eu-central-1b"]
  }
  assert {
    condition     = [for one in aws_ebs_fast_snapshot_restore.mysql : [one.snapshot_id, one.availability_zone]] == [["snap-0123456789abcdef0", "eu-central-1b"]]
    error_message = "Fast snapshot restore is not on."
  }
}

run "a_backstop_on_the_instance_reads_and_nothing_more" {
  state_key = "access"
  variables {
    instance_access = {
      secret_arn           = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/orders-AbCdEf"
      bucket               = { name = "acme-backstop", prefix = "orders" }
      package              = { s3_bucket = "acme-artifacts", s3_key = "backstop" }
      permissions_boundary = "arn:aws:iam::123456789012:policy/backstop-instances"
    }
  }
  assert {
    condition     = toset(flatten([for statement in jsondecode(aws_iam_role_policy.instance[0].policy).Statement : statement.Action])) == toset(["secretsmanager:GetSecretValue", "s3:ListBucket", "s3:GetObject"])
    error_message = aws_iam_role_policy.instance[0].policy
  }
  assert {
    condition     = aws_instance.mysql.iam_instance_profile == aws_iam_instance_profile.instance[0].name && startswith(aws_iam_role.instance[0].name, "backstop-recovered-") && length(aws_iam_role.instance[0].name) <= 64
    error_message = "The instance has not the profile."
  }
}

run "two_profiles" {
  command = plan
  variables {
    instance_profile = "databases"
    instance_access  = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/orders-AbCdEf", bucket = { name = "acme-backstop" } }
  }
  expect_failures = [var.instance_access]
}

run "all_secrets" {
  command = plan
  variables {
    instance_access = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:*", bucket = { name = "acme-backstop" } }
  }
  expect_failures = [var.instance_access]
}

run "a_mount_point_twice" {
  command = plan
  variables {
    volumes = [
      { device_name = "/dev/sdf", snapshot_id = "snap-0123456789abcdef0", mount_points = ["/var/lib/mysql"] },
      { device_name = "/dev/sdg", snapshot_id = "snap-0123456789abcdef1", mount_points = ["/var/lib/mysql"] },
    ]
  }
  expect_failures = [var.volumes]
}
