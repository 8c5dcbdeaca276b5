output "host" {
  description = "Private IP address of the instance."
  value       = aws_network_interface.mysql.private_ip
}

output "mysql_host" {
  description = "Address of the MySQL server, `host:port`, as in the tag `MySQL-Host`."
  value       = "${aws_network_interface.mysql.private_ip}:${var.mysql_port}"
}

output "private_dns" {
  description = "Private DNS name of the instance."
  value       = aws_instance.mysql.private_dns
}

output "instance_id" {
  description = "ID of the instance."
  value       = aws_instance.mysql.id
}

output "availability_zone" {
  description = "Availability Zone of the instance."
  value       = aws_instance.mysql.availability_zone
}

output "volumes" {
  description = "MySQL volumes by device name: the IDs of volume and snapshot, and the size."
  value = { for device, volume in aws_ebs_volume.mysql : device => {
    volume_id   = volume.id
    snapshot_id = local.volumes[device].snapshot_id
    size_gib    = volume.size
  } }
  # Readers of this output need attached volumes.
  depends_on = [aws_volume_attachment.mysql]
}

output "volume_ids" {
  description = "IDs of the MySQL volumes, in the order of their device names."
  value       = [for device in sort(keys(local.volumes)) : aws_ebs_volume.mysql[device].id]
  depends_on  = [aws_volume_attachment.mysql]
}

output "recovery_id" {
  description = "ID of the recovery that this state belongs to."
  value       = var.recovery_id
}

output "ansible_inventory" {
  description = "Ansible inventory of the instance in YAML: `terraform output -raw ansible_inventory > inventory.yml`."
  value = yamlencode({
    mysql = {
      hosts = {
        (local.name) = {
          ansible_host          = aws_network_interface.mysql.private_ip
          ansible_user          = var.ansible_user
          backstop_shard        = var.shard
          backstop_cluster_name = local.cluster
          backstop_recovery_id  = var.recovery_id
          backstop_instance_id  = aws_instance.mysql.id
          backstop_region       = data.aws_region.current.region
          backstop_connection   = var.connection
          backstop_mysql_port   = var.mysql_port
          backstop_volumes = [for device in sort(keys(local.volumes)) : {
            volume_id    = aws_ebs_volume.mysql[device].id
            snapshot_id  = local.volumes[device].snapshot_id
            device_name  = device
            mount_points = local.volumes[device].mount_points
          }]
        }
      }
    }
  })
  depends_on = [aws_volume_attachment.mysql]
}

output "instance_role_arn" {
  description = "ARN of the role that the module made for the instance; null without `instance_access`."
  value       = try(aws_iam_role.instance[0].arn, null)
}
