resource "aws_cloudwatch_log_group" "function" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.extra_tags
}

resource "aws_lambda_function" "backup" {
  #checkov:skip=CKV_AWS_115:executions reserved for each of many shards would use up those of the account; fleet-backup reserves
  #checkov:skip=CKV_AWS_116:aws_lambda_function_event_invoke_config sends failed events to a queue
  #checkov:skip=CKV_AWS_173:the variables hold no secrets, and Lambda encrypts them with its own key
  #checkov:skip=CKV_AWS_272:the package is built by its user, and pinned by source_code_hash
  #checkov:skip=CKV_AWS_50:the log has each step with its time
  function_name = local.name
  description   = "Backs up the MySQL shard ${var.shard} (Backstop)"
  role          = aws_iam_role.function.arn

  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  memory_size   = var.memory_mb
  timeout       = var.timeout_seconds

  filename          = var.package.path
  s3_bucket         = var.package.s3_bucket
  s3_key            = var.package.s3_key
  s3_object_version = var.package.s3_object_version
  source_code_hash  = var.package.path == null ? var.package.sha256 : coalesce(var.package.sha256, try(filebase64sha256(var.package.path), "unreadable"))

  environment {
    variables = merge(
      { BACKSTOP_REPOSITORY_CREATE = "if-empty" },
      var.environment,
      { BACKSTOP_REPOSITORY = module.access.urls[0] },
      length(var.extra_tags) == 0 ? {} : { BACKSTOP_SNAPSHOT_TAGS = jsonencode(var.extra_tags) },
    )
  }

  vpc_config {
    subnet_ids         = var.subnet_ids
    security_group_ids = local.security_groups
  }

  tags = var.extra_tags

  # Lambda needs the network permissions to create the function, and would create a log group without expiry.
  depends_on = [aws_iam_role_policy.function, aws_cloudwatch_log_group.function]
}

# Lambda retries a failed run once; the function recognizes a completed backup by its scheduled time. Then Lambda sends the event to the queue.
resource "aws_lambda_function_event_invoke_config" "backup" {
  function_name                = aws_lambda_function.backup.function_name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 3600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failed.arn
    }
  }
}

# Dead-letter queue: events of failed runs, and of schedules that could not invoke the function.
resource "aws_sqs_queue" "failed" {
  name                      = "${local.name}-failed"
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
  tags                      = var.extra_tags
}
