# IAM statements of functions that back up, and of roles that delete backups.
# docs/aws.md lists the actions that Backstop calls; testing/terraform/test_policies.py compares.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

module "volume_keys" {
  source = "../volume-keys"

  key_arns = var.volume_kms_key_arns
}

locals {
  ec2       = "arn:${data.aws_partition.current.partition}:ec2:${data.aws_region.current.region}"
  snapshots = "${local.ec2}::snapshot/*"
  volumes   = "${local.ec2}:${data.aws_caller_identity.current.account_id}:volume/*"
  instances = "${local.ec2}:${data.aws_caller_identity.current.account_id}:instance/*"

  requested = { for key, values in var.own_tags : "aws:RequestTag/${key}" => values }
  own       = { for key, values in var.own_tags : "aws:ResourceTag/${key}" => values }

  network_actions = [
    "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
  ]

  function = concat(
    var.read_secret,
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
        # Each snapshot carries the tags of its shard and Backstop's state, and is not completed from its creation.
        Sid      = "SnapshotsCarryTags"
        Effect   = "Allow"
        Action   = ["ec2:CreateSnapshots"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals = merge(local.requested, { "aws:RequestTag/Backstop-State" = "unproven" })
          Null         = { "aws:RequestTag/Backstop-Completion" = "true" }
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
        # The facts of the volume, until the snapshot is proven.
        # ForAllValues is true for a request without tags.
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
        Sid      = "DescribeVolumesOfOwnSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:CreateTags"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals                = merge(local.own, { "aws:ResourceTag/Backstop-State" = "unproven" })
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["Backstop-Volume"] }
          Null                        = { "aws:TagKeys" = "false" }
        }
      },
      {
        # The state changes only to `proven`: a proven snapshot cannot become unproven, and so deletable below.
        Sid      = "ProveOwnSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:CreateTags"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals                = merge(local.own, { "aws:RequestTag/Backstop-State" = "proven" })
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
          StringEquals = merge(local.own, { "aws:ResourceTag/Backstop-State" = "unproven" })
        }
      },
    ],
    var.use_repository,
    [
      {
        # A backup deletes only the object with which it tests conditional writes.
        Sid      = "RemoveProbes"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = [for one in var.objects : "${one}probes/*"]
      },
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${var.log_group_arn}:*"]
      },
      {
        Sid      = "ReportFailedEvents"
        Effect   = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = [var.queue_arn]
      },
      {
        # The Lambda service uses these permissions to attach the function to the VPC.
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
        Sid      = "JoinNetwork"
        Effect   = "Allow"
        Action   = local.network_actions
        Resource = ["*"]
      },
      {
        # The code of the function must not use them.
        Sid       = "CodeLeavesNetworkAlone"
        Effect    = "Deny"
        Action    = local.network_actions
        Resource  = ["*"]
        Condition = { ArnLike = { "lambda:SourceFunctionArn" = [var.function_arn, "${var.function_arn}:*"] } }
      },
    ],
    module.volume_keys.statements,
  )

  prune = concat(
    [
      {
        Sid      = "FindSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:DescribeSnapshots"]
        Resource = ["*"]
      },
      {
        Sid      = "DeleteOwnSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:DeleteSnapshot"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals = local.own
          Null         = { "aws:ResourceTag/Backstop-State" = "false" }
        }
      },
    ],
    var.use_repository,
    [{
      # Deleted objects become noncurrent versions, which the bucket keeps for a time. No role can delete versions.
      Sid      = "RemoveObjects"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject"]
      Resource = [for one in var.objects : "${one}*"]
    }],
  )
}
