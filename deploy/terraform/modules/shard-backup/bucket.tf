module "store" {
  source = "./store"
  count  = var.bucket.create ? 1 : 0

  name            = var.bucket.name
  kms_key_arn     = var.bucket.kms_key_arn
  noncurrent_days = var.bucket.noncurrent_days
  force_destroy   = var.bucket.force_destroy
  tags            = var.tags
}
