# IAM statements of a role that reads a shard's secret and its repository.

data "aws_region" "current" {}

data "aws_partition" "current" {}

locals {
  partition = data.aws_partition.current.partition
  services  = { for service in ["secretsmanager", "s3"] : service => "${service}.${data.aws_region.current.region}.${data.aws_partition.current.dns_suffix}" }

  bucket_arn = "arn:${local.partition}:s3:::${var.bucket.name}"
  prefix     = var.bucket.prefix == "" ? "" : "${var.bucket.prefix}/"
  objects    = "${local.bucket_arn}/${local.prefix}"

  read_secret = concat(
    [{
      Sid      = "ReadOneSecret"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [var.secret_arn]
    }],
    # Each key can be used only through the service that it serves.
    var.secret_kms_key_arn == null ? [] : [{
      Sid      = "DecryptTheSecret"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = [var.secret_kms_key_arn]
      Condition = { StringEquals = {
        "kms:ViaService"                  = local.services["secretsmanager"]
        "kms:EncryptionContext:SecretARN" = var.secret_arn
      } }
    }],
  )

  use_repository = concat(
    [
      {
        Sid       = "ListRepository"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = [local.bucket_arn]
        Condition = { StringLike = { "s3:prefix" = local.prefix == "" ? ["*"] : ["${local.prefix}*", var.bucket.prefix] } }
      },
      {
        Sid      = "ReadAndWriteRepository"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
        Resource = ["${local.objects}*"]
      },
    ],
    var.bucket.kms_key_arn == null ? [] : [{
      Sid       = "EncryptRepository"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [var.bucket.kms_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = local.services["s3"] } }
    }],
  )
}
