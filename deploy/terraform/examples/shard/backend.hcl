# State of the shards' backups, encrypted, and locked during each run.
bucket       = "acme-terraform-state"
key          = "backstop/shards.tfstate"
region       = "eu-central-1"
encrypt      = true
use_lockfile = true
