# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../shared/mocks"
}

variables {
  shard                = "orders"
  secret_arn           = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/orders-AbCdEf"
  orchestrator_urls    = ["http://orc1:3000", "http://orc2:3000"]
  package              = { s3_bucket = "acme-artifacts", s3_key = "backstop", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  ami_id               = "ami-0123456789abcdef0"
  vpc_id               = "vpc-0123456789abcdef0"
  subnet_id            = "subnet-0123456789abcdef0"
  database_cidr_blocks = ["10.1.0.0/16"]
  bucket               = { name = "acme-backstop", prefix = "orders" }
}

run "the_instance_finds_its_spool_and_requires_imdsv2" {
  assert {
    condition     = strcontains(aws_instance.archiver.user_data, "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0\n")
    error_message = "The start script does not name the spool's volume."
  }
  assert {
    condition     = aws_instance.archiver.metadata_options[0].http_tokens == "required"
    error_message = "The instance's credentials can be stolen with a forged request."
  }
  assert {
    condition     = aws_ebs_volume.spool.encrypted && aws_ebs_volume.spool.availability_zone == "eu-central-1b"
    error_message = "The spool is not encrypted, or not in the instance's zone."
  }
}

run "backups_are_out_of_reach" {
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.archiver.policy).Statement :
      alltrue([for resource in statement.Resource : can(regex("^arn:aws:s3:::acme-backstop/orders/(shards/\\*/archive|probes)/\\*$", resource))])
      if contains(statement.Action, "s3:DeleteObject")
    ])
    error_message = "The archiver may delete more than it wrote."
  }
  assert {
    condition     = !anytrue([for statement in jsondecode(aws_iam_role_policy.archiver.policy).Statement : anytrue([for action in statement.Action : startswith(action, "ec2:") && action != "ec2:DescribeSnapshots"])])
    error_message = "The archiver may touch EC2."
  }
}

run "missing_data_is_a_failure" {
  assert {
    condition     = aws_cloudwatch_metric_alarm.archive.treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.archive.evaluation_periods == 5
    error_message = "A missing archiver raises no alarm."
  }
}

run "semi_sync_from_a_replica" {
  command = plan
  variables {
    archive = { from = "replica", semi_sync = true }
  }
  expect_failures = [var.archive]
}

run "bad_sum" {
  command = plan
  variables {
    package = { s3_bucket = "b", s3_key = "k", sha256 = "abc" }
  }
  expect_failures = [var.package]
}

run "bad_orchestrator" {
  command = plan
  variables {
    orchestrator_urls = ["orc1:3000"]
  }
  expect_failures = [var.orchestrator_urls]
}

run "bad_spool" {
  command = plan
  variables {
    spool = { size_gib = 1 }
  }
  expect_failures = [var.spool]
}
