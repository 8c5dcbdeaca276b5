# State of the recoveries. Pass the key for each one: backstop/recoveries/ID.tfstate
bucket       = "acme-terraform-state"
region       = "eu-central-1"
encrypt      = true
use_lockfile = true
