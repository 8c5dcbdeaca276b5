locals {
  metrics = "Backstop/${var.shard}"
}

# Rings on trouble and on silence.
resource "aws_cloudwatch_metric_alarm" "archive" {
  alarm_name        = "${local.name}-not-well"
  alarm_description = "The archive of the MySQL shard ${var.shard} is not well, or its archiver says nothing, for ${var.alarm.unhealthy_minutes} minutes: see `backstop status ${var.shard}`"

  namespace           = local.metrics
  metric_name         = "ArchiveWell"
  statistic           = "Maximum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = var.alarm.unhealthy_minutes
  datapoints_to_alarm = var.alarm.unhealthy_minutes
  treat_missing_data  = "breaching"

  alarm_actions = var.alarm.actions
  ok_actions    = var.alarm.actions
  tags          = var.tags
}

# A machine whose hardware fails is started again elsewhere, with its disks.
resource "aws_cloudwatch_metric_alarm" "machine" {
  alarm_name        = "${local.name}-machine"
  alarm_description = "The machine of the archiver of the MySQL shard ${var.shard} fails; EC2 moves it"

  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = aws_instance.archiver.id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 2
  treat_missing_data  = "missing"

  alarm_actions = setunion(var.alarm.actions, ["arn:${data.aws_partition.current.partition}:automate:${local.region}:ec2:recover"])
  ok_actions    = var.alarm.actions
  tags          = var.tags
}
