output "function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.completion.function_name
}

output "function_role_arn" {
  description = "ARN of the function's role, for the policies of KMS keys and buckets."
  value       = aws_iam_role.function.arn
}

output "log_group_name" {
  description = "Name of the log group with the events `backup_completed`, `backup_incomplete` and `foreign_snapshot`."
  value       = aws_cloudwatch_log_group.function.name
}

output "queue_url" {
  description = "URL of the queue of EBS's events."
  value       = aws_sqs_queue.events.id
}

output "dead_letter_queue_url" {
  description = "URL of the queue of events that could not be processed."
  value       = aws_sqs_queue.dead.id
}

output "alarm_names" {
  description = "Names of the alarms: on incomplete backups, on unprocessed events, and on events that wait."
  value       = [for alarm in [aws_cloudwatch_metric_alarm.incomplete, aws_cloudwatch_metric_alarm.dead, aws_cloudwatch_metric_alarm.late] : alarm.alarm_name]
}
