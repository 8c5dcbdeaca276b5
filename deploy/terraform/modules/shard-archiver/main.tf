data "aws_region" "current" {}

data "aws_partition" "current" {}

data "aws_subnet" "instance" {
  id = var.subnet_id
}

locals {
  name    = "backstop-${var.shard}-archiver"
  cluster = coalesce(var.cluster_name, var.shard)
  region  = data.aws_region.current.region
  tags    = merge(var.extra_tags, { Name = local.name, Cluster-name = local.cluster, Backstop-Shard = var.shard })

  configuration = templatefile("${path.module}/backstop.toml.tftpl", {
    shard        = var.shard
    cluster      = local.cluster
    repository   = module.access.urls[0]
    region       = local.region
    secret_arn   = var.secret_arn
    orchestrator = var.orchestrator_urls
    archive      = var.archive
  })
}

# The spool may hold acknowledged commits, so no change of an argument replaces the volume.
resource "aws_ebs_volume" "spool" {
  availability_zone = data.aws_subnet.instance.availability_zone
  size              = var.spool.size_gib
  type              = var.spool.type
  encrypted         = true
  kms_key_id        = var.spool.kms_key_id
  tags              = merge(local.tags, { Name = "${local.name}-spool" })

  lifecycle {
    ignore_changes = [encrypted, kms_key_id]

    postcondition {
      condition     = self.availability_zone == data.aws_subnet.instance.availability_zone
      error_message = "The spool is in ${self.availability_zone}, and subnet ${var.subnet_id} is not."
    }
  }
}

# Keeps the address when the instance is replaced, since accounts and grants may name it.
resource "aws_network_interface" "archiver" {
  subnet_id       = var.subnet_id
  security_groups = module.network.security_group_ids
  description     = "Archiver of the MySQL shard ${var.shard}"
  tags            = local.tags
}

resource "aws_instance" "archiver" {
  #checkov:skip=CKV_AWS_126:backstop reports each minute itself; the basic system check suffices for the recovery of the instance
  ami                  = var.ami_id
  instance_type        = var.instance_type
  iam_instance_profile = aws_iam_instance_profile.archiver.name
  key_name             = var.key_name
  ebs_optimized        = true

  primary_network_interface {
    network_interface_id = aws_network_interface.archiver.id
  }

  # A change of the configuration or the program replaces the instance. The next one continues with the same spool.
  user_data_replace_on_change = true
  user_data = templatefile("${path.module}/user_data.sh.tftpl", {
    shard         = var.shard
    region        = local.region
    configuration = local.configuration
    package       = var.package
    spool         = aws_ebs_volume.spool.id
  })

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

  tags = local.tags

  lifecycle {
    ignore_changes = [ami]
  }
}

resource "aws_volume_attachment" "spool" {
  instance_id = aws_instance.archiver.id
  volume_id   = aws_ebs_volume.spool.id
  device_name = "/dev/sdf"

  # On a stop, the archiver archives the transactions that it has read.
  stop_instance_before_detaching = true
}

module "network" {
  source = "../shared/client-network"

  name                 = local.name
  description          = "Archiver of the MySQL shard ${var.shard}"
  vpc_id               = var.vpc_id
  database_cidr_blocks = var.database_cidr_blocks
  database_ports       = var.database_ports
  endpoints            = var.endpoints
  tags                 = local.tags
}
