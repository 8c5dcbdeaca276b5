locals {
  # Events that the function logs. docs/lambda.md
  reported = {
    backup_skipped    = { metric = "BackupSkipped", name = "skipped", text = "An occasion was skipped, since the earlier backup of the MySQL shard ${var.shard} is still pending" }
    candidate_expired = { metric = "CandidateExpired", name = "no-candidate", text = "orchestrator has no candidate rule for the MySQL shard ${var.shard}: its backups come from another server" }
  }

  # The interval of the schedule, its window, and the time until EBS has completed the snapshots.
  needed_hours  = module.schedule.interval_hours == null ? null : module.schedule.interval_hours + var.window_minutes / 60 + var.alarm.completion_hours
  missing_hours = var.alarm.missing_after_hours != null ? var.alarm.missing_after_hours : local.needed_hours == null ? 168 : min(168, ceil(local.needed_hours))
}

# Counts completions, which the function of the module `completion` logs: a backup that is not complete is none.
# Missing data counts as failure: it may mean a schedule that does not run, a deleted function or a lost log.
resource "aws_cloudwatch_metric_alarm" "missing_success" {
  alarm_name        = "${local.name}-no-backup"
  alarm_description = "No backup of the MySQL shard ${var.shard} has been completed for ${local.missing_hours} hours"

  namespace           = "Backstop"
  metric_name         = "BackupCompleted"
  dimensions          = { Shard = var.shard }
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 3600
  evaluation_periods  = local.missing_hours
  datapoints_to_alarm = local.missing_hours
  treat_missing_data  = "breaching"

  actions_enabled = var.schedule_enabled
  alarm_actions   = var.alarm.actions
  ok_actions      = var.alarm.actions
  tags            = var.extra_tags
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
  tags          = var.extra_tags
}

resource "aws_cloudwatch_log_metric_filter" "reported" {
  for_each = local.reported

  name           = "${local.name}-${each.value.name}"
  log_group_name = aws_cloudwatch_log_group.function.name
  pattern        = "{ $.event = \"${each.key}\" }"

  metric_transformation {
    namespace = local.metrics
    name      = each.value.metric
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "reported" {
  for_each = local.reported

  alarm_name        = "${local.name}-${each.value.name}"
  alarm_description = each.value.text

  namespace           = local.metrics
  metric_name         = each.value.metric
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 3600
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm.actions
  ok_actions    = var.alarm.actions
  tags          = var.extra_tags
}
