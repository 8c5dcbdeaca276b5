# IAM statements for the KMS keys of volumes, which EC2 uses on behalf of a role.
# https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  through_ec2 = { "kms:ViaService" = "ec2.${data.aws_region.current.region}.${data.aws_partition.current.dns_suffix}" }
}
