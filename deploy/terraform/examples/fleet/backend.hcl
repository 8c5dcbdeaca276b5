# State of the fleet's backups, encrypted, and locked during each run.
bucket       = "acme-terraform-state"
key          = "backstop/fleet.tfstate"
region       = "eu-central-1"
encrypt      = true
use_lockfile = true
