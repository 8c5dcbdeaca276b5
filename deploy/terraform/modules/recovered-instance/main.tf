locals {
  cluster = coalesce(var.cluster_name, var.shard)
  name    = "${var.shard}-${var.recovery_id}"

  # Volumes by device name: their order in the list has no meaning. A fact that the type of the volume does not take is left out.
  volumes = { for volume in var.volumes : volume.device_name => merge(volume, {
    iops           = contains(["gp3", "io1", "io2"], volume.type) ? volume.iops : null
    throughput_mib = volume.type == "gp3" ? volume.throughput_mib : null
  }) }

  # Fast snapshot restore by snapshot and zone.
  fast = { for pair in setproduct(values(local.volumes)[*].snapshot_id, var.fast_restore_zones) : "${pair[0]}/${pair[1]}" => { snapshot = pair[0], zone = pair[1] } }

  instance_profile = var.instance_access == null ? var.instance_profile : aws_iam_instance_profile.instance[0].name

  tags = merge(var.extra_tags, {
    Name              = local.name
    Cluster-name      = local.cluster
    Backstop-Shard    = var.shard
    Backstop-Recovery = var.recovery_id
  })

  # Arguments that a state must keep.
  origin = jsonencode({
    recovery  = var.recovery_id
    zone      = var.availability_zone
    snapshots = { for device, volume in local.volumes : device => volume.snapshot_id }
  })
}

data "aws_region" "current" {}

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
      error_message = "Snapshot ${each.value.snapshot_id} is not proven: its data may differ from its GTID set. Use another, or set require_proven = false."
    }

    postcondition {
      condition     = tonumber(lookup(self.tags, "Backstop-Set", "1")) == length(var.volumes)
      error_message = "Snapshot ${each.value.snapshot_id} is one of a set of ${lookup(self.tags, "Backstop-Set", "1")}, and ${length(var.volumes)} are given: the server needs all snapshots of the set and no others."
    }

    postcondition {
      condition     = each.value.size_gib == null ? true : each.value.size_gib >= self.volume_size
      error_message = "The volume for ${each.key} would be smaller than snapshot ${each.value.snapshot_id} (${self.volume_size} GiB)."
    }
  }
}

# Terraform would replace a volume, with the recovered data on it, if its snapshot or zone changed. So the state records its arguments,
# and the precondition below refuses others. For the same reason the volumes ignore changes of keys.
resource "terraform_data" "origin" {
  input = local.origin

  lifecycle {
    ignore_changes = [input]
  }
}

# EC2 charges for each snapshot and zone by the hour, for as long as it is on.
# https://docs.aws.amazon.com/ebs/latest/userguide/ebs-fast-snapshot-restore.html
resource "aws_ebs_fast_snapshot_restore" "mysql" {
  for_each = local.fast

  availability_zone = each.value.zone
  snapshot_id       = each.value.snapshot

  # EC2 needs about an hour for each TiB.
  timeouts {
    create = "4h"
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
    # No change of an argument replaces the volume: see `origin`.
    ignore_changes = [availability_zone, snapshot_id, encrypted, kms_key_id, volume_initialization_rate]

    precondition {
      condition     = terraform_data.origin.output == local.origin
      error_message = "This state belongs to ${try(jsondecode(terraform_data.origin.output).recovery, "another recovery")} (${terraform_data.origin.output}); the plan is for ${local.origin}. Give each recovery a separate state, or its data volumes would be lost."
    }

    precondition {
      condition     = length(distinct([for snapshot in data.aws_ebs_snapshot.volume : lookup(snapshot.tags, "Backstop-Run", "")])) <= 1
      error_message = "The snapshots are of more than one backup (tag `Backstop-Run`): together they are not a state of the server."
    }
  }

  # A volume that is made earlier is loaded block by block.
  depends_on = [aws_ebs_fast_snapshot_restore.mysql]
}

# Create the address first, so that the instance has it as a tag from its launch.
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
  #checkov:skip=CKV_AWS_126:MySQL is watched by the monitoring of its shard; metrics by the minute cost extra
  ami                     = var.ami_id
  instance_type           = var.instance_type
  availability_zone       = var.availability_zone
  key_name                = var.key_name
  iam_instance_profile    = local.instance_profile
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

  # Backstop finds the instance of a MySQL server by `MySQL-Host`.
  tags = merge(local.tags, { MySQL-Host = "${aws_network_interface.mysql.private_ip}:${var.mysql_port}" })

  lifecycle {
    # A newer AMI or other user data must not replace a running database server.
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

  # Do not detach the volume of a running server.
  force_detach                   = false
  stop_instance_before_detaching = true
}
