output "function_name" {
  description = "Name of the function, for jobs that start backups on demand: invoke its alias (`--qualifier live`) with the shard's secret."
  value       = aws_lambda_function.backup.function_name
}

output "function_arn" {
  description = "ARN of the alias that schedules invoke."
  value       = aws_lambda_alias.live.arn
}

output "function_version" {
  description = "Number of the newest version, for `release.stable_version` before the next package."
  value       = aws_lambda_function.backup.version
}

output "function_role_arn" {
  description = "ARN of the function's role."
  value       = aws_iam_role.function.arn
}

output "function_security_group_id" {
  description = "ID of the function's security group; null with `security_group_ids`. MySQL and orchestrator must allow traffic from it."
  value       = try(module.network[0].security_group_id, null)
}

output "schedule_group_name" {
  description = "Name of the schedule group in EventBridge Scheduler; a schedule has the name of its shard."
  value       = aws_scheduler_schedule_group.shards.name
}

output "repository" {
  description = "URL of the first repository."
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
  description = "Names of the alarms on missing backups, by shard."
  value       = { for shard, alarm in aws_cloudwatch_metric_alarm.missing : shard => alarm.alarm_name }
}

output "invoke_policy_json" {
  description = "IAM policy for principals that start backups on demand, such as Rundeck's role."
  value = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "BackUp", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = ["${local.function_arn}:${local.alias}"] },
  ] })
}

output "recover_policy_json" {
  description = "IAM policy for principals that recover any shard with the module `recovered-instance`. It does not include Terraform's state, the secrets and the repository."
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
