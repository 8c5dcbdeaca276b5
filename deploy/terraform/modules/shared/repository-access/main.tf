# IAM statements of a role that reads secrets of shards and their repositories.

data "aws_region" "current" {}

data "aws_partition" "current" {}

locals {
  partition = data.aws_partition.current.partition
  services  = { for service in ["secretsmanager", "s3"] : service => "${service}.${data.aws_region.current.region}.${data.aws_partition.current.dns_suffix}" }

  repositories = [for one in var.repositories : {
    bucket = "arn:${local.partition}:s3:::${one.name}"
    prefix = one.prefix == "" ? "" : "${one.prefix}/"
  }]
  objects     = [for one in local.repositories : "${one.bucket}/${one.prefix}"]
  bucket_keys = distinct(compact([for one in var.repositories : one.kms_key_arn]))

  read_secret = concat(
    [{
      Sid      = "ReadSecrets"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = sort(var.secret_arns)
    }],
    # Each key can be used only through the service that it serves.
    length(var.secret_kms_key_arns) == 0 ? [] : [{
      Sid      = "DecryptSecrets"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = sort(var.secret_kms_key_arns)
      Condition = {
        StringEquals = { "kms:ViaService" = local.services["secretsmanager"] }
        StringLike   = { "kms:EncryptionContext:SecretARN" = sort(var.secret_arns) }
      }
    }],
  )

  use_repository = concat(
    [for index, one in local.repositories : {
      Sid       = "ListRepository${index == 0 ? "" : index + 1}"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = [one.bucket]
      Condition = { StringLike = { "s3:prefix" = one.prefix == "" ? ["*"] : ["${one.prefix}*", trimsuffix(one.prefix, "/")] } }
    }],
    [{
      Sid      = var.writable ? "ReadAndWriteRepository" : "ReadRepository"
      Effect   = "Allow"
      Action   = concat(["s3:GetObject"], var.writable ? ["s3:PutObject", "s3:AbortMultipartUpload"] : [])
      Resource = [for one in local.objects : "${one}*"]
    }],
    length(local.bucket_keys) == 0 ? [] : [{
      Sid       = var.writable ? "EncryptRepository" : "DecryptRepository"
      Effect    = "Allow"
      Action    = concat(["kms:Decrypt"], var.writable ? ["kms:GenerateDataKey"] : [])
      Resource  = local.bucket_keys
      Condition = { StringEquals = { "kms:ViaService" = local.services["s3"] } }
    }],
  )
}
