# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../shared/mocks"
}

variables {
  name       = "acme-backstop"
  extra_tags = { CostCentre = "4711" }
}

run "objects_are_private_encrypted_and_versioned" {
  assert {
    condition = (
      aws_s3_bucket_versioning.repository.versioning_configuration[0].status == "Enabled" &&
      aws_s3_bucket_public_access_block.repository.block_public_policy && aws_s3_bucket_public_access_block.repository.restrict_public_buckets &&
      one(one(aws_s3_bucket_server_side_encryption_configuration.repository.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    )
    error_message = "The bucket is not private, encrypted and versioned."
  }
  assert {
    condition     = !aws_s3_bucket.repository.force_destroy && aws_s3_bucket.repository.tags == tomap({ CostCentre = "4711" })
    error_message = "The bucket can be destroyed with its objects, or has no tags."
  }
}

run "bad_name" {
  command = plan
  variables {
    name = "Acme"
  }
  expect_failures = [var.name]
}
