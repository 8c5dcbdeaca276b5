data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account       = data.aws_caller_identity.current.account_id
  partition     = data.aws_partition.current.partition
  region        = data.aws_region.current.region
  function_arn  = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}"
  rule_arn      = "arn:${local.partition}:events:${local.region}:${local.account}:rule/${var.name}"
  log_group     = "/aws/lambda/${var.name}"
  log_group_arn = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:${local.log_group}"
}

# Completed and failed snapshots of one volume, and of the sets of CreateSnapshots, of the whole account and Region.
# https://docs.aws.amazon.com/ebs/latest/userguide/ebs-cloud-watch-events.html
resource "aws_cloudwatch_event_rule" "completion" {
  name        = var.name
  description = "Ends of EBS snapshots, for Backstop"
  event_pattern = jsonencode({
    source        = ["aws.ec2"]
    "detail-type" = ["EBS Snapshot Notification", "EBS Multi-Volume Snapshots Completion Status"]
    detail        = { event = ["createSnapshot", "createSnapshots"] }
  })
  tags = var.extra_tags
}

resource "aws_cloudwatch_event_target" "completion" {
  rule = aws_cloudwatch_event_rule.completion.name
  arn  = aws_sqs_queue.events.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead.arn
  }
}

resource "aws_sqs_queue" "events" {
  name                      = var.name
  message_retention_seconds = 4 * 24 * 3600
  # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
  visibility_timeout_seconds = 6 * var.timeout_seconds
  sqs_managed_sse_enabled    = true
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead.arn, maxReceiveCount = 5 })
  tags                       = var.extra_tags
}

# Dead-letter queue of the rule, of the events' queue and of the sweep.
resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
  tags                      = var.extra_tags
}

resource "aws_sqs_queue_policy" "from_rule" {
  for_each = { events = aws_sqs_queue.events, dead = aws_sqs_queue.dead }

  queue_url = each.value.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Sid       = "FromTheRule"
    Effect    = "Allow"
    Principal = { Service = "events.amazonaws.com" }
    Action    = "sqs:SendMessage"
    Resource  = each.value.arn
    Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arn } }
  }] })
}

resource "aws_cloudwatch_log_group" "function" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.extra_tags
}

resource "aws_lambda_function" "completion" {
  #checkov:skip=CKV_AWS_116:the queue of events and the schedule have a dead-letter queue
  #checkov:skip=CKV_AWS_173:the variables hold no secrets, and Lambda encrypts them with its own key
  #checkov:skip=CKV_AWS_272:the package is built by its user, and pinned by source_code_hash
  #checkov:skip=CKV_AWS_50:the log has each step with its time
  function_name = var.name
  description   = "Completes the backups whose EBS snapshots have ended (Backstop)"
  role          = aws_iam_role.function.arn

  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_seconds
  reserved_concurrent_executions = var.concurrency

  filename          = var.package.path
  s3_bucket         = var.package.s3_bucket
  s3_key            = var.package.s3_key
  s3_object_version = var.package.s3_object_version
  source_code_hash  = var.package.path == null ? var.package.sha256 : coalesce(var.package.sha256, try(filebase64sha256(var.package.path), "unreadable"))

  dynamic "environment" {
    for_each = length(var.environment) == 0 ? [] : [var.environment]

    content {
      variables = environment.value
    }
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) == 0 ? [] : [var.subnet_ids]

    content {
      subnet_ids         = vpc_config.value
      security_group_ids = var.security_group_ids
    }
  }

  tags = var.extra_tags

  # Lambda would create a log group without expiry.
  depends_on = [aws_iam_role_policy.function, aws_cloudwatch_log_group.function]
}

resource "aws_lambda_event_source_mapping" "events" {
  event_source_arn        = aws_sqs_queue.events.arn
  function_name           = aws_lambda_function.completion.arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = var.extra_tags

  # Less than the reserved executions: above them, Lambda would throttle and messages end in the dead-letter queue.
  # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
  scaling_config {
    maximum_concurrency = var.concurrency - 1
  }
}

module "sweep" {
  source = "../shared/schedule"
  text   = var.sweep_schedule
}

resource "aws_scheduler_schedule" "sweep" {
  #checkov:skip=CKV_AWS_297:the event holds no data
  name        = "${var.name}-sweep"
  description = "Completes backups whose event was lost"

  schedule_expression          = module.sweep.expression
  schedule_expression_timezone = "UTC"

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = var.sweep_window_minutes
  }

  target {
    arn      = aws_lambda_function.completion.arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({ sweep = true })

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 3
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead.arn
    }
  }
}
