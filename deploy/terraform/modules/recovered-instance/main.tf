locals {
  cluster = coalesce(var.cluster_name, var.shard)
  name    = "${var.shard}-${var.recovery_id}"

  # By device name: the order of the list means nothing.
  volumes = { for volume in var.volumes : volume.device_name => volume }

  tags = merge(var.tags, {
    Name              = local.name
    Cluster-name      = local.cluster
    Backstop-Shard    = var.shard
    Backstop-Recovery = var.recovery_id
  })

  # What this state was made for.
  origin = jsonencode({
    recovery  = var.recovery_id
    zone      = var.availability_zone
    snapshots = { for device, volume in local.volumes : device => volume.snapshot_id }
  })
}

data "aws_subnet" "instance" {
  id = var.subnet_id
}

data "aws_ebs_snapshot" "volume" {
  for_each     = var.check_snapshots ? local.volumes : {}
  snapshot_ids = [each.value.snapshot_id]

  lifecycle {
    postcondition {
      condition     = self.state == "completed"
      error_message = "Snapshot ${each.value.snapshot_id} is ${self.state}: wait until it is completed."
    }

    postcondition {
      condition     = lookup(self.tags, "Cluster-name", "") == local.cluster
      error_message = "Snapshot ${each.value.snapshot_id} is of cluster `${lookup(self.tags, "Cluster-name", "")}`, not of `${local.cluster}`."
    }

    postcondition {
      condition     = !var.require_proven || lookup(self.tags, "Backstop-State", "") == "proven"
      error_message = "Snapshot ${each.value.snapshot_id} is not proven: its data need not be that of its GTID. Take another, or set require_proven = false."
    }

    postcondition {
      condition     = tonumber(lookup(self.tags, "Backstop-Set", "1")) == length(var.volumes)
      error_message = "Snapshot ${each.value.snapshot_id} is one of a set of ${lookup(self.tags, "Backstop-Set", "1")}, and ${length(var.volumes)} are given: the server needs all of the set and no other."
    }

    postcondition {
      condition     = each.value.size_gib == null ? true : each.value.size_gib >= self.volume_size
      error_message = "The volume for ${each.key} would be smaller than snapshot ${each.value.snapshot_id} (${self.volume_size} GiB)."
    }
  }
}

# A volume whose snapshot or zone changes would be deleted and made anew, with the recovered data on it. So a state keeps what it was
# made for, and refuses anything else. Keys and types of volumes are left alone below for the same reason.
resource "terraform_data" "origin" {
  input = local.origin

  lifecycle {
    ignore_changes = [input]
  }
}

resource "aws_ebs_volume" "mysql" {
  for_each = local.volumes

  availability_zone          = var.availability_zone
  snapshot_id                = each.value.snapshot_id
  size                       = each.value.size_gib
  type                       = each.value.type
  iops                       = each.value.iops
  throughput                 = each.value.throughput_mib
  encrypted                  = true
  kms_key_id                 = each.value.kms_key_id
  volume_initialization_rate = var.initialization_rate_mibs
  tags                       = merge(local.tags, { Backstop-Snapshot = each.value.snapshot_id, Backstop-Device = each.key })

  lifecycle {
    # Nothing that can change makes another volume of it. What was asked for at first is what is there: see `origin`.
    ignore_changes = [availability_zone, snapshot_id, encrypted, kms_key_id, volume_initialization_rate]

    precondition {
      condition     = terraform_data.origin.output == local.origin
      error_message = "This state belongs to ${try(jsondecode(terraform_data.origin.output).recovery, "another recovery")} (${terraform_data.origin.output}); it is now asked for ${local.origin}. Give each recovery a state of its own: its data volumes would be lost."
    }

    precondition {
      condition     = length(distinct([for snapshot in data.aws_ebs_snapshot.volume : lookup(snapshot.tags, "Backstop-Run", "")])) <= 1
      error_message = "The snapshots are not all of one backup (tag `Backstop-Run`): together they are no state the server ever had."
    }
  }
}

# The address comes first, so that the instance carries it as a tag from its start on.
resource "aws_network_interface" "mysql" {
  subnet_id       = var.subnet_id
  security_groups = var.security_group_ids
  description     = "MySQL of the shard ${var.shard}, recovery ${var.recovery_id}"
  tags            = local.tags

  lifecycle {
    ignore_changes = [subnet_id]
  }
}

resource "aws_instance" "mysql" {
  ami                     = var.ami_id
  instance_type           = var.instance_type
  availability_zone       = var.availability_zone
  key_name                = var.key_name
  iam_instance_profile    = var.instance_profile
  user_data               = var.user_data
  ebs_optimized           = true
  disable_api_termination = var.protected

  primary_network_interface {
    network_interface_id = aws_network_interface.mysql.id
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.root_volume_gib
    encrypted   = true
    tags        = local.tags
  }

  # Backstop finds the instance of a MySQL host by `MySQL-Host`.
  tags = merge(local.tags, { MySQL-Host = "${aws_network_interface.mysql.private_ip}:${var.mysql_port}" })

  lifecycle {
    # An image or start script that is newer by the next apply does not replace a running database server.
    ignore_changes = [ami, user_data]

    precondition {
      condition     = data.aws_subnet.instance.availability_zone == var.availability_zone
      error_message = "Subnet ${var.subnet_id} is in ${data.aws_subnet.instance.availability_zone}, not in ${var.availability_zone}."
    }
  }
}

resource "aws_volume_attachment" "mysql" {
  for_each = local.volumes

  instance_id = aws_instance.mysql.id
  volume_id   = aws_ebs_volume.mysql[each.key].id
  device_name = each.key

  # A running server's volume is not pulled out from under it.
  force_detach                   = false
  stop_instance_before_detaching = true
}
