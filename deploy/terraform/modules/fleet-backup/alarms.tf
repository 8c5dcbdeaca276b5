locals {
  # Hours without a completed backup: the interval of the schedule, its window, and the time until EBS has completed the snapshots.
  missing_hours = { for shard, one in var.shards : shard => (
    one.missing_after_hours != null ? one.missing_after_hours :
    module.schedule[one.schedule].interval_hours == null ? 168 :
    min(168, ceil(module.schedule[one.schedule].interval_hours + var.window_minutes / 60 + var.alarm.completion_hours))
  ) }

  # Events that the function logs, whatever the shard. docs/lambda.md
  reported = {
    backup_skipped    = { metric = "BackupSkipped", name = "skipped", text = "An occasion was skipped, since the earlier backup of a shard is still pending" }
    candidate_expired = { metric = "CandidateExpired", name = "no-candidate", text = "orchestrator has no candidate rule for a shard: its backups come from another server" }
  }
}

# Counts completions, which the function of the module `completion` logs: a backup that is not complete is none.
# Missing data counts as failure: it may mean a schedule that does not run, a deleted function or a lost log.
resource "aws_cloudwatch_metric_alarm" "missing" {
  for_each = var.shards

  alarm_name        = "backstop-${each.key}-no-backup"
  alarm_description = "No backup of the MySQL shard ${each.key} has been completed for ${local.missing_hours[each.key]} hours"

  namespace           = "Backstop"
  metric_name         = "BackupCompleted"
  dimensions          = { Shard = each.key }
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 3600
  evaluation_periods  = local.missing_hours[each.key]
  datapoints_to_alarm = local.missing_hours[each.key]
  treat_missing_data  = "breaching"

  actions_enabled = each.value.enabled
  alarm_actions   = setunion(var.alarm.actions, each.value.actions)
  ok_actions      = setunion(var.alarm.actions, each.value.actions)
  tags            = var.extra_tags
}

resource "aws_cloudwatch_metric_alarm" "failed_events" {
  alarm_name        = "${local.name}-failed"
  alarm_description = "A backup failed for good: the event with the shard's secret and the reason are in the queue ${local.name}-failed"

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
  alarm_description = "${each.value.text}: the log group ${local.log_group} names the shard"

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
