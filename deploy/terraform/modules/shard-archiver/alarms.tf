locals {
  metrics = "Backstop/${var.shard}"
}

# Missing data counts as failure: the archiver may be gone.
resource "aws_cloudwatch_metric_alarm" "archive" {
  alarm_name        = "${local.name}-not-well"
  alarm_description = "The archive of the MySQL shard ${var.shard} is unhealthy, or its archiver has not reported, for ${var.alarm.unhealthy_minutes} minutes: run `backstop status ${var.shard}`"

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
  tags          = var.extra_tags
}

# EC2 recovers an instance on failed hardware, with its volumes.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-recover.html
resource "aws_cloudwatch_metric_alarm" "machine" {
  alarm_name        = "${local.name}-machine"
  alarm_description = "The instance of the archiver of the MySQL shard ${var.shard} fails its system status check; EC2 recovers it"

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
  tags          = var.extra_tags
}
