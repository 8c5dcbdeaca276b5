# Who may do what. Three roles: of the function, of the schedule, and (if somebody may take it) of deletion.
# docs/aws.md lists the actions that Backstop calls; testing/terraform/test_policies.py compares.

locals {
  trust = { for service in ["lambda", "scheduler"] : service => {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "${service}.amazonaws.com" }
      # Nobody else's function or schedule can borrow the role.
      Condition = service == "lambda" ? {} : { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  } }

  # What is Backstop's, and this shard's: snapshots carry these tags from their creation on.
  own_snapshot = {
    StringEquals = { "aws:ResourceTag/Cluster-name" = local.cluster }
    Null         = { "aws:ResourceTag/Backstop-State" = "false" }
  }

  function_statements = concat(
    [
      {
        Sid      = "ReadOneSecret"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = [var.secret_arn]
      },
      {
        Sid    = "FindInstanceVolumesAndSnapshots"
        Effect = "Allow"
        # EC2 knows no narrower resource for these.
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
        # No snapshot without the cluster's name and Backstop's state.
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
        # The one tag that changes, and only to `proven`: what is proven cannot become unproven, and so not deletable below.
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
        # What a failed freeze leaves. A proven snapshot goes only with the role below.
        Sid      = "DropUnprovenSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:DeleteSnapshot"]
        Resource = [local.snapshots]
        Condition = {
          StringEquals = { "aws:ResourceTag/Cluster-name" = local.cluster, "aws:ResourceTag/Backstop-State" = "unproven" }
        }
      },
    ],
    local.read_repository,
    [
      {
        Sid      = "WriteRepository"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]
        Resource = ["${local.bucket_arn}/${local.prefix}*"]
      },
      {
        # A backup removes nothing but the object by which it finds out whether the store keeps conditions.
        Sid      = "RemoveProbes"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${local.bucket_arn}/${local.prefix}probes/*"]
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
        # Lambda itself needs these to join the VPC …
        Sid    = "JoinNetwork"
        Effect = "Allow"
        Action = [
          "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
          "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
        ]
        Resource = ["*"]
      },
      {
        # … and the code in the function never.
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
    local.use_secret_key,
    local.use_bucket_key,
    local.use_volume_keys,
  )

  read_repository = [
    {
      Sid       = "ListRepository"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = [local.bucket_arn]
      Condition = { StringLike = { "s3:prefix" = local.prefix == "" ? ["*"] : ["${local.prefix}*", var.bucket.prefix] } }
    },
    {
      Sid      = "ReadRepository"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["${local.bucket_arn}/${local.prefix}*"]
    },
  ]

  # Each key only through the service it is for.
  use_secret_key = var.secret_kms_key_arn == null ? [] : [{
    Sid      = "DecryptTheSecret"
    Effect   = "Allow"
    Action   = ["kms:Decrypt"]
    Resource = [var.secret_kms_key_arn]
    Condition = { StringEquals = {
      "kms:ViaService"                  = "secretsmanager.${local.region}.${local.domain}"
      "kms:EncryptionContext:SecretARN" = var.secret_arn
    } }
  }]
  use_bucket_key = var.bucket.kms_key_arn == null ? [] : [{
    Sid       = "EncryptRepository"
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource  = [var.bucket.kms_key_arn]
    Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.${local.domain}" } }
  }]
  use_volume_keys = length(var.volume_kms_key_arns) == 0 ? [] : [
    {
      Sid       = "UseVolumeKeys"
      Effect    = "Allow"
      Action    = ["kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
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
    local.read_repository,
    [{
      # Objects that go become noncurrent versions: the bucket keeps them for a while. Nobody here may delete versions.
      Sid      = "WriteAndRemoveObjects"
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"]
      Resource = ["${local.bucket_arn}/${local.prefix}*"]
    }],
    local.use_bucket_key,
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
