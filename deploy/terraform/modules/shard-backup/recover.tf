# Policy of principals that recover the shard: EC2 resources with the tags of the module recovered-instance.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html

locals {
  own_recovery = {
    StringEquals = { "aws:ResourceTag/Cluster-name" = local.cluster }
    Null         = { "aws:ResourceTag/Backstop-Recovery" = "false" }
  }
  tagged_recovery = {
    StringEquals = { "aws:RequestTag/Cluster-name" = local.cluster }
    Null         = { "aws:RequestTag/Backstop-Recovery" = "false" }
  }
  interfaces = "${local.ec2}:${local.account}:network-interface/*"

  recover_statements = concat(
    [
      {
        Sid    = "Describe"
        Effect = "Allow"
        Action = [
          "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeNetworkInterfaces",
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
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
    length(var.recovery_role_arns) == 0 ? [] : [{
      Sid       = "PassInstanceRoles"
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = sort(var.recovery_role_arns)
      Condition = { StringEquals = { "iam:PassedToService" = "ec2.${local.domain}" } }
    }],
    local.use_volume_keys,
  )
}
