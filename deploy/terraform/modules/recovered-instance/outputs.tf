output "host" {
  description = "Address of the instance in the VPC."
  value       = aws_network_interface.mysql.private_ip
}

output "mysql_host" {
  description = "`host:port` of the server to be, as in the tag `MySQL-Host`."
  value       = "${aws_network_interface.mysql.private_ip}:${var.mysql_port}"
}

output "private_dns" {
  description = "Name of the instance in the VPC."
  value       = aws_instance.mysql.private_dns
}

output "instance_id" {
  description = "The instance."
  value       = aws_instance.mysql.id
}

output "availability_zone" {
  description = "Where it is."
  value       = aws_instance.mysql.availability_zone
}

output "volumes" {
  description = "The MySQL volumes: by device name, the volume's id and the snapshot's."
  value = { for device, volume in aws_ebs_volume.mysql : device => {
    volume_id   = volume.id
    snapshot_id = local.volumes[device].snapshot_id
    size_gib    = volume.size
  } }
  # A volume that is not attached yet is no use to whoever reads this.
  depends_on = [aws_volume_attachment.mysql]
}

output "volume_ids" {
  description = "Ids of the MySQL volumes, by order of device name."
  value       = [for device in sort(keys(local.volumes)) : aws_ebs_volume.mysql[device].id]
  depends_on  = [aws_volume_attachment.mysql]
}

output "recovery_id" {
  description = "The recovery that this state belongs to."
  value       = var.recovery_id
}

output "ansible_inventory" {
  description = "Inventory in YAML with the one host, for the playbook: `terraform output -raw ansible_inventory > inventory.yml`."
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
          backstop_mysql_port   = var.mysql_port
          backstop_volumes = [for device in sort(keys(local.volumes)) : {
            volume_id   = aws_ebs_volume.mysql[device].id
            snapshot_id = local.volumes[device].snapshot_id
            device_name = device
          }]
        }
      }
    }
  })
  depends_on = [aws_volume_attachment.mysql]
}
