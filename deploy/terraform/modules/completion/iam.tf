module "access" {
  source = "../shared/repository-access"

  secret_arns         = var.secret_arns
  secret_kms_key_arns = var.secret_kms_key_arns
  repositories        = var.repositories
}

locals {
  network_actions = [
    "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
  ]

  statements = concat(
    module.access.read_secret,
    [
      {
        # EC2 supports no resource-level permissions for this action.
        Sid      = "FindSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:DescribeSnapshots"]
        Resource = ["*"]
      },
      {
        # One tag, with one of two values, of proven snapshots.
        # ForAllValues is true for a request without tags.
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
        Sid      = "MarkCompletion"
        Effect   = "Allow"
        Action   = ["ec2:CreateTags"]
        Resource = ["arn:${local.partition}:ec2:${local.region}::snapshot/*"]
        Condition = {
          StringEquals = {
            "aws:ResourceTag/Backstop-State"     = "proven"
            "aws:RequestTag/Backstop-Completion" = ["completed", "failed"]
          }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["Backstop-Completion"] }
          Null                        = { "aws:TagKeys" = "false" }
        }
      },
    ],
    module.access.use_repository,
    [
      {
        Sid      = "TakeEvents"
        Effect   = "Allow"
        Action   = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
        Resource = [aws_sqs_queue.events.arn]
      },
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${local.log_group_arn}:*"]
      },
    ],
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
    length(var.subnet_ids) == 0 ? [] : [
      {
        Sid       = "JoinNetwork"
        Effect    = "Allow"
        Action    = local.network_actions
        Resource  = ["*"]
        Condition = {}
      },
      {
        Sid       = "CodeLeavesNetworkAlone"
        Effect    = "Deny"
        Action    = local.network_actions
        Resource  = ["*"]
        Condition = { ArnLike = { "lambda:SourceFunctionArn" = [local.function_arn, "${local.function_arn}:*"] } }
      },
    ],
  )
}

resource "aws_iam_role" "function" {
  name        = "${var.name}-function"
  description = "Completes backups whose EBS snapshots have ended"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { Service = "lambda.amazonaws.com" }
  }] })
  permissions_boundary = var.permissions_boundary
  tags                 = var.extra_tags
}

resource "aws_iam_role_policy" "function" {
  name   = "complete"
  role   = aws_iam_role.function.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}

resource "aws_iam_role" "scheduler" {
  name        = "${var.name}-scheduler"
  description = "Invokes the sweep of Backstop's completion"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { Service = "scheduler.amazonaws.com" }
    Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
  }] })
  permissions_boundary = var.permissions_boundary
  tags                 = var.extra_tags
}

resource "aws_iam_role_policy" "scheduler" {
  name = "invoke"
  role = aws_iam_role.scheduler.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "Invoke", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = [local.function_arn] },
    { Sid = "ReportWhatCouldNotBeInvoked", Effect = "Allow", Action = ["sqs:SendMessage"], Resource = [aws_sqs_queue.dead.arn] },
  ] })
}
