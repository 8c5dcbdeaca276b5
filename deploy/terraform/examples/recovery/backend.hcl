# Where the state of recoveries is; the key is given for each: backstop/recoveries/ID.tfstate
bucket       = "acme-terraform-state"
region       = "eu-central-1"
encrypt      = true
use_lockfile = true
