resource "aws_cloudwatch_log_group" "function" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.extra_tags
}

module "network" {
  source = "../shared/client-network"
  count  = length(var.security_group_ids) > 0 ? 0 : 1

  name                 = "${local.name}-function"
  description          = "Backup function of the fleet ${var.fleet}"
  vpc_id               = var.vpc_id
  database_cidr_blocks = var.database_cidr_blocks
  database_ports       = var.database_ports
  endpoints            = var.endpoints
  tags                 = merge(var.extra_tags, { Name = "${local.name}-function" })
}

# One function for all shards: the event names the shard's secret.
resource "aws_lambda_function" "backup" {
  #checkov:skip=CKV_AWS_116:aws_lambda_function_event_invoke_config sends failed events to a queue
  #checkov:skip=CKV_AWS_173:the variables hold no secrets, and Lambda encrypts them with its own key
  #checkov:skip=CKV_AWS_272:the package is built by its user, and pinned by source_code_hash
  #checkov:skip=CKV_AWS_50:the log has each step with its time
  function_name = local.name
  description   = "Backs up the MySQL shards of the fleet ${var.fleet} (Backstop)"
  role          = aws_iam_role.function.arn
  publish       = true

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
    security_group_ids = length(var.security_group_ids) > 0 ? sort(var.security_group_ids) : module.network[0].security_group_ids
  }

  tags = var.extra_tags

  # Lambda needs the network permissions to create the function, and would create a log group without expiry.
  depends_on = [aws_iam_role_policy.function, aws_cloudwatch_log_group.function]
}

# Schedules and jobs invoke the alias. https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
resource "aws_lambda_alias" "live" {
  name             = local.alias
  description      = "Version that backs up"
  function_name    = aws_lambda_function.backup.function_name
  function_version = coalesce(var.release.stable_version, aws_lambda_function.backup.version)

  dynamic "routing_config" {
    for_each = var.release.canary_weight > 0 ? [var.release.canary_weight] : []

    content {
      additional_version_weights = { (aws_lambda_function.backup.version) = routing_config.value }
    }
  }
}

# Lambda retries a failed run once; the function recognizes a completed backup by its scheduled time. Then Lambda sends the event to the queue.
resource "aws_lambda_function_event_invoke_config" "backup" {
  function_name                = aws_lambda_function.backup.function_name
  qualifier                    = aws_lambda_alias.live.name
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
