# IAM policy of principals that recover shards, or drill that: EC2 resources with the tags of the module recovered-instance.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

module "volume_keys" {
  source = "../volume-keys"

  key_arns = var.volume_kms_key_arns
}

locals {
  account    = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  ec2        = "arn:${local.partition}:ec2:${data.aws_region.current.region}"
  snapshots  = "${local.ec2}::snapshot/*"
  volumes    = "${local.ec2}:${local.account}:volume/*"
  instances  = "${local.ec2}:${local.account}:instance/*"
  interfaces = "${local.ec2}:${local.account}:network-interface/*"

  # Roles and instance profiles that the module recovered-instance makes.
  made_roles    = "arn:${local.partition}:iam::${local.account}:role/backstop-recovered-*"
  made_profiles = "arn:${local.partition}:iam::${local.account}:instance-profile/backstop-recovered-*"
  passed_roles  = concat(sort(var.role_arns), var.profile_boundary_arn == null ? [] : [local.made_roles])

  own_recovery    = { StringLike = { "aws:ResourceTag/Cluster-name" = var.clusters, "aws:ResourceTag/Backstop-Recovery" = var.recoveries } }
  tagged_recovery = { StringLike = { "aws:RequestTag/Cluster-name" = var.clusters, "aws:RequestTag/Backstop-Recovery" = var.recoveries } }
  own_snapshot = {
    StringLike = { "aws:ResourceTag/Cluster-name" = var.clusters }
    Null       = { "aws:ResourceTag/Backstop-State" = "false" }
  }

  statements = concat(
    [
      {
        Sid    = "Describe"
        Effect = "Allow"
        Action = [
          "ec2:DescribeFastSnapshotRestores", "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSecurityGroups", "ec2:DescribeSnapshots", "ec2:DescribeSubnets", "ec2:DescribeTags", "ec2:DescribeVolumes",
          "ec2:DescribeVolumeStatus", "ec2:DescribeVpcs",
        ]
        Resource = ["*"]
      },
      {
        Sid       = "CreateTaggedResources"
        Effect    = "Allow"
        Action    = ["ec2:CreateVolume"]
        Resource  = [local.volumes]
        Condition = local.tagged_recovery
      },
      {
        Sid       = "UseSnapshotsOfTheCluster"
        Effect    = "Allow"
        Action    = ["ec2:CreateVolume"]
        Resource  = [local.snapshots]
        Condition = local.own_snapshot
      },
      {
        Sid       = "CreateTaggedInterfaces"
        Effect    = "Allow"
        Action    = ["ec2:CreateNetworkInterface"]
        Resource  = [local.interfaces]
        Condition = local.tagged_recovery
      },
      {
        Sid       = "RunTaggedInstances"
        Effect    = "Allow"
        Action    = ["ec2:RunInstances"]
        Resource  = [local.instances, local.volumes]
        Condition = local.tagged_recovery
      },
      {
        Sid       = "RunOnOwnInterfaces"
        Effect    = "Allow"
        Action    = ["ec2:RunInstances"]
        Resource  = [local.interfaces]
        Condition = local.own_recovery
      },
      {
        Sid    = "UseNetwork"
        Effect = "Allow"
        Action = ["ec2:CreateNetworkInterface", "ec2:RunInstances"]
        Resource = [
          "${local.ec2}:${local.account}:subnet/*",
          "${local.ec2}:${local.account}:security-group/*",
        ]
      },
      {
        Sid      = "UseImages"
        Effect   = "Allow"
        Action   = ["ec2:RunInstances"]
        Resource = ["${local.ec2}::image/*", "${local.ec2}:${local.account}:key-pair/*"]
      },
      {
        Sid       = "TagAtCreation"
        Effect    = "Allow"
        Action    = ["ec2:CreateTags"]
        Resource  = [local.volumes, local.instances, local.interfaces]
        Condition = { StringEquals = { "ec2:CreateAction" = ["CreateVolume", "CreateNetworkInterface", "RunInstances"] } }
      },
      {
        Sid    = "ChangeOwnInstances"
        Effect = "Allow"
        Action = [
          "ec2:AttachVolume", "ec2:DescribeInstanceAttribute", "ec2:DetachVolume", "ec2:GetConsoleOutput", "ec2:ModifyInstanceAttribute",
          "ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances",
        ]
        Resource  = [local.instances]
        Condition = local.own_recovery
      },
      {
        Sid       = "ChangeOwnVolumes"
        Effect    = "Allow"
        Action    = ["ec2:AttachVolume", "ec2:DeleteVolume", "ec2:DetachVolume"]
        Resource  = [local.volumes]
        Condition = local.own_recovery
      },
      {
        Sid       = "DeleteOwnInterfaces"
        Effect    = "Allow"
        Action    = ["ec2:DeleteNetworkInterface"]
        Resource  = [local.interfaces]
        Condition = local.own_recovery
      },
    ],
    !var.fast_restores ? [] : [{
      Sid       = "RestoreSnapshotsFast"
      Effect    = "Allow"
      Action    = ["ec2:DisableFastSnapshotRestores", "ec2:EnableFastSnapshotRestores"]
      Resource  = [local.snapshots]
      Condition = local.own_snapshot
    }],
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
    length(local.passed_roles) == 0 ? [] : [{
      Sid       = "PassInstanceRoles"
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = local.passed_roles
      Condition = { StringEquals = { "iam:PassedToService" = "ec2.${data.aws_partition.current.dns_suffix}" } }
    }],
    # A role can get any inline policy: the boundary keeps it within what an instance may do.
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html
    [for one in [
      {
        Sid       = "MakeBoundedRoles"
        Effect    = "Allow"
        Action    = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy"]
        Resource  = [local.made_roles]
        Condition = { ArnEquals = { "iam:PermissionsBoundary" = var.profile_boundary_arn } }
      },
      {
        Sid    = "ManageMadeRoles"
        Effect = "Allow"
        Action = [
          "iam:DeleteRole", "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole",
          "iam:ListRolePolicies", "iam:TagRole",
        ]
        Resource = [local.made_roles]
      },
      {
        Sid    = "ManageMadeProfiles"
        Effect = "Allow"
        Action = [
          "iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:DeleteInstanceProfile", "iam:GetInstanceProfile",
          "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile",
        ]
        Resource = [local.made_profiles]
      },
    ] : one if var.profile_boundary_arn != null],
    module.volume_keys.statements,
  )
}
