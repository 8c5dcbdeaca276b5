output "function_name" {
  description = "Name of the function, for jobs that start backups on demand."
  value       = aws_lambda_function.backup.function_name
}

output "function_arn" {
  description = "ARN of the function."
  value       = aws_lambda_function.backup.arn
}

output "function_role_arn" {
  description = "ARN of the function's role."
  value       = aws_iam_role.function.arn
}

output "function_security_group_id" {
  description = "ID of the function's security group; null with `security_group_ids`. MySQL and orchestrator must allow traffic from it."
  value       = try(module.network[0].security_group_id, null)
}

output "schedule_name" {
  description = "Name of the schedule in EventBridge Scheduler."
  value       = aws_scheduler_schedule.backup.name
}

output "schedule_event" {
  description = "Event with which the schedule invokes the function."
  value       = local.event
}

output "repository" {
  description = "URL of the repository, for `[repository]` in Backstop's configuration."
  value       = module.access.urls[0]
}

output "prune_role_arn" {
  description = "ARN of the role that deletes backups; null if `prune_principals` is empty."
  value       = try(aws_iam_role.prune[0].arn, null)
}

output "failed_events_queue_url" {
  description = "URL of the queue of events that no run could process."
  value       = aws_sqs_queue.failed.id
}

output "alarm_names" {
  description = "Names of the alarms: on missing backups, on failed events, and on what the function reports."
  value = concat(
    [aws_cloudwatch_metric_alarm.missing_success.alarm_name, aws_cloudwatch_metric_alarm.failed_events.alarm_name],
    [for one in aws_cloudwatch_metric_alarm.reported : one.alarm_name],
  )
}

output "invoke_policy_json" {
  description = "IAM policy for principals that start backups on demand, such as Rundeck's role."
  value = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "BackUp${replace(title(replace(var.shard, "-", " ")), " ", "")}", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = [local.function_arn] },
  ] })
}

output "recover_policy_json" {
  description = "IAM policy for principals that recover the shard with the module `recovered-instance`. It does not include Terraform's state, the secret and the repository."
  value       = module.recovery_policy["recover"].json
}

output "drill_policy_json" {
  description = "IAM policy for principals that drill recoveries: the same, for recoveries whose id begins with `drill-` only, and without fast snapshot restore."
  value       = module.recovery_policy["drill"].json
}

output "check_policy_json" {
  description = "IAM policy for principals that run `backstop check --aws`, beside the actions of the role that they check."
  value       = module.check_policy.json
}
