locals {
  metrics = "Backstop/${var.shard}"
  # Line that the function logs when a backup is in the repository and its snapshots are proven and complete. If they are
  # pending when the run ends, the next run logs it. docs/lambda.md
  success_pattern = "{ $.event = \"backup_succeeded\" }"
}

resource "aws_cloudwatch_log_metric_filter" "success" {
  name           = "${local.name}-succeeded"
  log_group_name = aws_cloudwatch_log_group.function.name
  pattern        = local.success_pattern

  metric_transformation {
    namespace = local.metrics
    name      = "BackupSucceeded"
    value     = "1"
  }
}

# Missing data counts as failure: it may mean a schedule that does not run, a deleted function or a lost log.
resource "aws_cloudwatch_metric_alarm" "missing_success" {
  alarm_name        = "${local.name}-no-backup"
  alarm_description = "No backup of the MySQL shard ${var.shard} has succeeded for ${var.alarm.missing_after_hours} hours"

  namespace           = local.metrics
  metric_name         = "BackupSucceeded"
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 3600
  evaluation_periods  = var.alarm.missing_after_hours
  datapoints_to_alarm = var.alarm.missing_after_hours
  treat_missing_data  = "breaching"

  actions_enabled = var.schedule_enabled
  alarm_actions   = var.alarm.actions
  ok_actions      = var.alarm.actions
  tags            = var.tags
}

resource "aws_cloudwatch_metric_alarm" "failed_events" {
  alarm_name        = "${local.name}-failed"
  alarm_description = "A backup of the MySQL shard ${var.shard} failed for good: the event and the reason are in the queue ${local.name}-failed"

  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.failed.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm.actions
  ok_actions    = var.alarm.actions
  tags          = var.tags
}
