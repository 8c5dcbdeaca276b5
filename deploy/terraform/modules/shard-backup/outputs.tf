output "function_name" {
  description = "The function, for jobs that back up on demand."
  value       = aws_lambda_function.backup.function_name
}

output "function_arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.backup.arn
}

output "function_role_arn" {
  description = "The function's role."
  value       = aws_iam_role.function.arn
}

output "function_security_group_id" {
  description = "The function's security group: let it in at MySQL and orchestrator."
  value       = aws_security_group.function.id
}

output "endpoints_security_group_id" {
  description = "Security group of the VPC's endpoints, made here or given; null without."
  value       = local.endpoints_security_group
}

output "schedule_name" {
  description = "The schedule in EventBridge Scheduler."
  value       = aws_scheduler_schedule.backup.name
}

output "schedule_event" {
  description = "What the schedule hands to the function."
  value       = local.event
}

output "repository" {
  description = "The repository's URL, for `[repository]` in Backstop's configuration."
  value       = local.repository
}

output "prune_role_arn" {
  description = "The role that deletes backups; null if nobody may take it."
  value       = try(aws_iam_role.prune[0].arn, null)
}

output "failed_events_queue_url" {
  description = "The queue of events that no run could serve."
  value       = aws_sqs_queue.failed.id
}

output "alarm_names" {
  description = "The alarms: on missing success, and on failed events."
  value       = [aws_cloudwatch_metric_alarm.missing_success.alarm_name, aws_cloudwatch_metric_alarm.failed_events.alarm_name]
}

output "invoke_policy_json" {
  description = "IAM policy for whoever may back up on demand, such as Rundeck's role."
  value = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "BackUp${replace(title(replace(var.shard, "-", " ")), " ", "")}", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = [local.function_arn] },
  ] })
}
