# The metric that the alarms on missing backups count, with the shard as its dimension.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutMetricFilter.html
resource "aws_cloudwatch_log_metric_filter" "completed" {
  for_each = var.shard_patterns

  name           = "backup_completed ${replace(each.value, "*", "~")}"
  log_group_name = aws_cloudwatch_log_group.function.name
  pattern        = "{ $.event = \"backup_completed\" && $.shard = \"${each.value}\" }"

  metric_transformation {
    namespace  = "Backstop"
    name       = "BackupCompleted"
    value      = "1"
    unit       = "Count"
    dimensions = { Shard = "$.shard" }
  }
}

resource "aws_cloudwatch_log_metric_filter" "incomplete" {
  name           = "backup_incomplete"
  log_group_name = aws_cloudwatch_log_group.function.name
  pattern        = "{ $.event = \"backup_incomplete\" }"

  metric_transformation {
    namespace = "Backstop"
    name      = "BackupIncomplete"
    value     = "1"
    unit      = "Count"
  }
}

resource "aws_cloudwatch_metric_alarm" "incomplete" {
  alarm_name        = "${var.name}-incomplete"
  alarm_description = "The snapshots of a backup failed. The log group ${local.log_group} names the shard, the backup and the reason: look for backup_incomplete"

  namespace           = "Backstop"
  metric_name         = "BackupIncomplete"
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm_actions
  ok_actions    = var.alarm_actions
  tags          = var.extra_tags
}

resource "aws_cloudwatch_metric_alarm" "dead" {
  alarm_name        = "${var.name}-dead"
  alarm_description = "An event could not be processed: it is in the queue ${var.name}-dead, and the reason in the log group ${local.log_group}"

  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm_actions
  ok_actions    = var.alarm_actions
  tags          = var.extra_tags
}

# Events are taken within minutes: an old one means that the function does not run.
resource "aws_cloudwatch_metric_alarm" "late" {
  alarm_name        = "${var.name}-late"
  alarm_description = "Events have waited for an hour in the queue ${var.name}: the function does not run, or is throttled"

  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.events.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 3600
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm_actions
  ok_actions    = var.alarm_actions
  tags          = var.extra_tags
}
