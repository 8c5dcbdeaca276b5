output "instance_id" {
  description = "ID of the instance."
  value       = aws_instance.archiver.id
}

output "private_ip" {
  description = "Private IP address of the archiver, which it keeps when the instance is replaced. MySQL sees a replica at this address."
  value       = aws_network_interface.archiver.private_ip
}

output "security_group_id" {
  description = "ID of the archiver's security group. MySQL and orchestrator must allow traffic from it."
  value       = module.network.security_group_id
}

output "role_arn" {
  description = "ARN of the archiver's role."
  value       = aws_iam_role.archiver.arn
}

output "spool_volume_id" {
  description = "ID of the spool's volume."
  value       = aws_ebs_volume.spool.id
}

output "configuration" {
  description = "Backstop's configuration on the instance."
  value       = local.configuration
}

output "alarm_names" {
  description = "Names of the alarms: on the archive, and on the instance."
  value       = [aws_cloudwatch_metric_alarm.archive.alarm_name, aws_cloudwatch_metric_alarm.machine.alarm_name]
}
