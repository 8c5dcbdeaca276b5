data "aws_region" "current" {}

data "aws_partition" "current" {}

data "aws_subnet" "instance" {
  id = var.subnet_id
}

locals {
  name       = "backstop-${var.shard}-archiver"
  cluster    = coalesce(var.cluster_name, var.shard)
  region     = data.aws_region.current.region
  repository = trimsuffix("s3://${var.bucket.name}/${var.bucket.prefix}", "/")
  tags       = merge(var.tags, { Name = local.name, Cluster-name = local.cluster, Backstop-Shard = var.shard })

  configuration = templatefile("${path.module}/backstop.toml.tftpl", {
    shard        = var.shard
    cluster      = local.cluster
    repository   = local.repository
    region       = local.region
    secret_arn   = var.secret_arn
    orchestrator = var.orchestrator_urls
    archive      = var.archive
  })
}

# It may hold commits that clients were told of: nothing that can change makes another volume of it.
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

# The address stays when the instance is replaced: logins and grants may name it.
resource "aws_network_interface" "archiver" {
  subnet_id       = var.subnet_id
  security_groups = [aws_security_group.archiver.id]
  description     = "Archiver of the MySQL shard ${var.shard}"
  tags            = local.tags
}

resource "aws_instance" "archiver" {
  ami                  = var.ami_id
  instance_type        = var.instance_type
  iam_instance_profile = aws_iam_instance_profile.archiver.name
  key_name             = var.key_name
  ebs_optimized        = true

  primary_network_interface {
    network_interface_id = aws_network_interface.archiver.id
  }

  # Another configuration or program is another instance, on the same spool: it goes on where the last one was.
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

  # The archiver archives what it has read before it ends.
  stop_instance_before_detaching = true
}

resource "aws_security_group" "archiver" {
  name        = local.name
  description = "Archiver of the MySQL shard ${var.shard}"
  vpc_id      = var.vpc_id
  tags        = local.tags
}

resource "aws_security_group_rule" "databases" {
  for_each = { for port in var.database_ports : tostring(port) => port }

  security_group_id = aws_security_group.archiver.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_blocks       = sort(var.database_cidr_blocks)
  description       = "MySQL and orchestrator"
}

resource "aws_security_group_rule" "endpoints" {
  count = var.endpoints.mode == "use" ? 1 : 0

  security_group_id        = aws_security_group.archiver.id
  type                     = "egress"
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
  source_security_group_id = var.endpoints.security_group_id
  description              = "AWS by VPC endpoints"
}

resource "aws_security_group_rule" "into_endpoints" {
  count = var.endpoints.mode == "use" ? 1 : 0

  security_group_id        = var.endpoints.security_group_id
  type                     = "ingress"
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
  source_security_group_id = aws_security_group.archiver.id
  description              = local.name
}

data "aws_prefix_list" "s3" {
  count = var.endpoints.mode == "use" ? 1 : 0
  name  = "com.amazonaws.${local.region}.s3"
}

resource "aws_security_group_rule" "s3" {
  count = var.endpoints.mode == "use" ? 1 : 0

  security_group_id = aws_security_group.archiver.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_ids   = [data.aws_prefix_list.s3[0].id]
  description       = "S3 by its gateway endpoint"
}

resource "aws_security_group_rule" "aws_by_nat" {
  count = var.endpoints.mode == "nat" ? 1 : 0

  security_group_id = aws_security_group.archiver.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_blocks       = ["0.0.0.0/0"]
  description       = "AWS by a NAT gateway"
}
