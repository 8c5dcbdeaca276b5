resource "aws_s3_bucket" "repository" {
  #checkov:skip=CKV2_AWS_62:nothing waits for objects; the functions log what they do
  #checkov:skip=CKV_AWS_144:replication needs a bucket in another Region, which the user of the module has or has not
  #checkov:skip=CKV_AWS_18:access logs are an organisation's choice (CloudTrail data events, or a separate bucket)
  bucket        = var.name
  force_destroy = var.force_destroy
  tags          = var.extra_tags
}

resource "aws_s3_bucket_versioning" "repository" {
  bucket = aws_s3_bucket.repository.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "repository" {
  bucket = aws_s3_bucket.repository.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "repository" {
  bucket = aws_s3_bucket.repository.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "repository" {
  bucket = aws_s3_bucket.repository.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "repository" {
  bucket = aws_s3_bucket.repository.id

  # Current objects do not expire: only `backstop prune` can decide which objects are needed.
  rule {
    id     = "noncurrent-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  rule {
    id     = "broken-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.repository]
}

resource "aws_s3_bucket_policy" "repository" {
  bucket = aws_s3_bucket.repository.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Sid       = "OnlyEncryptedConnections"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource  = [aws_s3_bucket.repository.arn, "${aws_s3_bucket.repository.arn}/*"]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }] })

  depends_on = [aws_s3_bucket_public_access_block.repository]
}
