# Roles of the function, of the schedule and, if `prune_principals` names a principal, of deletion.
# docs/aws.md lists the actions that Backstop calls; testing/terraform/test_policies.py compares.

module "access" {
  source = "../shared/repository-access"

  secret_arn         = var.secret_arn
  secret_kms_key_arn = var.secret_kms_key_arn
  bucket             = var.bucket
}

locals {
  trust = { for service in ["lambda", "scheduler"] : service => {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "${service}.amazonaws.com" }
      # A schedule of another account cannot use the role (confused deputy).
      Condition = service == "lambda" ? {} : { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  } }

  # Condition for Backstop's snapshots of this shard, which carry these tags from their creation.
  own_snapshot = {
    StringEquals = { "aws:ResourceTag/Cluster-name" = local.cluster }
    Null         = { "aws:ResourceTag/Backstop-State" = "false" }
  }

  function_statements = concat(
    module.access.read_secret,
    [
      {
        Sid    = "FindInstanceVolumesAndSnapshots"
        Effect = "Allow"
        # EC2 supports no resource-level permissions for these actions.
        Action   = ["ec2:DescribeInstances", "ec2:DescribeVolumes", "ec2:DescribeSnapshots"]
        Resource = ["*"]
      },
      merge({
        Sid      = "SnapshotVolumes"
        Effect   = "Allow"
        Action   = ["ec2:CreateSnapshots"]
        Resource = [local.volumes, local.instances]
      }, var.volume_tag == null ? {} : { Condition = { StringEquals = { "aws:ResourceTag/${var.volume_tag.key}" = var.volume_tag.value } } }),
      {
        # Each snapshot carries the cluster's name and Backstop's state.
        Sid      = "SnapshotsCarryTags"
        Effect   = "Allow"
        Action   = ["ec2:CreateSnapshots"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals = {
            "aws:RequestTag/Cluster-name"   = local.cluster
            "aws:RequestTag/Backstop-State" = "unproven"
          }
        }
      },
      {
        Sid      = "TagAtCreation"
        Effect   = "Allow"
        Action   = ["ec2:CreateTags"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals = { "ec2:CreateAction" = "CreateSnapshots" }
        }
      },
      {
        # The only tag that changes, and only to `proven`: a proven snapshot cannot become unproven, and so deletable below.
        Sid      = "ProveOwnSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:CreateTags"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals                = { "aws:ResourceTag/Cluster-name" = local.cluster, "aws:RequestTag/Backstop-State" = "proven" }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["Backstop-State"] }
          Null                        = { "aws:ResourceTag/Backstop-State" = "false" }
        }
      },
      {
        # Snapshots left by a failed freeze. Only the role for deletion can delete a proven snapshot.
        Sid      = "DropUnprovenSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:DeleteSnapshot"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals = { "aws:ResourceTag/Cluster-name" = local.cluster, "aws:ResourceTag/Backstop-State" = "unproven" }
        }
      },
    ],
    module.access.use_repository,
    [
      {
        # A backup deletes only the object with which it tests conditional writes.
        Sid      = "RemoveProbes"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${module.access.objects}probes/*"]
      },
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${local.log_group_arn}:*"]
      },
      {
        Sid      = "ReportFailedEvents"
        Effect   = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = [aws_sqs_queue.failed.arn]
      },
      {
        # The Lambda service uses these permissions to attach the function to the VPC.
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
        Sid    = "JoinNetwork"
        Effect = "Allow"
        Action = [
          "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
          "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
        ]
        Resource = ["*"]
      },
      {
        # The code of the function must not use them.
        Sid    = "CodeLeavesNetworkAlone"
        Effect = "Deny"
        Action = [
          "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
          "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
        ]
        Resource  = ["*"]
        Condition = { ArnEquals = { "lambda:SourceFunctionArn" = local.function_arn } }
      },
    ],
    local.use_volume_keys,
  )

  # https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
  use_volume_keys = length(var.volume_kms_key_arns) == 0 ? [] : [
    {
      Sid       = "UseVolumeKeys"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
      Resource  = sort(var.volume_kms_key_arns)
      Condition = { StringEquals = { "kms:ViaService" = "ec2.${local.region}.${local.domain}" } }
    },
    {
      Sid      = "LendVolumeKeysToEC2"
      Effect   = "Allow"
      Action   = ["kms:CreateGrant"]
      Resource = sort(var.volume_kms_key_arns)
      Condition = {
        StringEquals = { "kms:ViaService" = "ec2.${local.region}.${local.domain}" }
        Bool         = { "kms:GrantIsForAWSResource" = "true" }
      }
    },
  ]

  prune_statements = concat(
    [
      {
        Sid      = "FindSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:DescribeSnapshots"]
        Resource = ["*"]
      },
      {
        Sid       = "DeleteOwnSnapshots"
        Effect    = "Allow"
        Action    = ["ec2:DeleteSnapshot"]
        Resource  = [local.snapshots]
        Condition = local.own_snapshot
      },
    ],
    module.access.use_repository,
    [{
      # Deleted objects become noncurrent versions, which the bucket keeps for a time. No role can delete versions.
      Sid      = "RemoveObjects"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject"]
      Resource = ["${module.access.objects}*"]
    }],
  )
}

resource "aws_iam_role" "function" {
  name                 = "${local.name}-function"
  description          = "Backs up the MySQL shard ${var.shard}"
  assume_role_policy   = jsonencode(local.trust["lambda"])
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "function" {
  name   = "backup"
  role   = aws_iam_role.function.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.function_statements })
}

resource "aws_iam_role" "scheduler" {
  name                 = "${local.name}-scheduler"
  description          = "Invokes the backup of the MySQL shard ${var.shard} on schedule"
  assume_role_policy   = jsonencode(local.trust["scheduler"])
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "scheduler" {
  name = "invoke"
  role = aws_iam_role.scheduler.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "Invoke", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = [local.function_arn] },
    { Sid = "ReportWhatCouldNotBeInvoked", Effect = "Allow", Action = ["sqs:SendMessage"], Resource = [aws_sqs_queue.failed.arn] },
  ] })
}

resource "aws_iam_role" "prune" {
  count = length(var.prune_principals) > 0 ? 1 : 0

  name        = "${local.name}-prune"
  description = "Deletes backups of the MySQL shard ${var.shard}"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { AWS = sort(var.prune_principals) }
  }] })
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "prune" {
  count = length(var.prune_principals) > 0 ? 1 : 0

  name   = "prune"
  role   = aws_iam_role.prune[0].id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.prune_statements })
}
