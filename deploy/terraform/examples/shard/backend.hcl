# Where the state of the shards' backups is: encrypted, and locked while somebody works on it.
bucket       = "acme-terraform-state"
key          = "backstop/shards.tfstate"
region       = "eu-central-1"
encrypt      = true
use_lockfile = true
