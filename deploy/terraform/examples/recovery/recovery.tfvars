recovery_id               = "orders-20261123T2355"
primary_availability_zone = "eu-central-1a"
availability_zone         = "eu-central-1b"
subnet_id                 = "subnet-0123456789abcdef1"
volumes                   = { "/dev/sdf" = { snapshot_id = "snap-0123456789abcdef0", mount_points = ["/var/lib/mysql"] } }
