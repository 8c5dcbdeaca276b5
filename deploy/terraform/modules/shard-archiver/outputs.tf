output "instance_id" {
  description = "The instance."
  value       = aws_instance.archiver.id
}

output "private_ip" {
  description = "Its address, which stays when the instance is replaced: MySQL sees the archiver as a replica from there."
  value       = aws_network_interface.archiver.private_ip
}

output "security_group_id" {
  description = "Its security group: let it in at MySQL and orchestrator."
  value       = aws_security_group.archiver.id
}

output "role_arn" {
  description = "Its role."
  value       = aws_iam_role.archiver.arn
}

output "spool_volume_id" {
  description = "The spool's volume."
  value       = aws_ebs_volume.spool.id
}

output "configuration" {
  description = "Backstop's configuration there, to look at."
  value       = local.configuration
}

output "alarm_names" {
  description = "The alarms: on the archive, and on the machine."
  value       = [aws_cloudwatch_metric_alarm.archive.alarm_name, aws_cloudwatch_metric_alarm.machine.alarm_name]
}
