# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../shared/mocks"
}

variables {
  secret_arns          = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/*"]
  package              = { s3_bucket = "acme-artifacts", s3_key = "backstop-lambda.zip" }
  vpc_id               = "vpc-0123456789abcdef0"
  subnet_ids           = ["subnet-0123456789abcdef0"]
  database_cidr_blocks = ["10.1.0.0/16"]
  repositories         = [{ name = "acme-backstop" }]
  extra_tags           = { CostCentre = "4711" }
  shards = {
    orders    = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/orders-AbCdEf", schedule = "cron(55 23 * * ? *)" }
    customers = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/customers-AbCdEf", schedule = "rate(6 hours)", enabled = false }
  }
}

run "each_shard_has_a_schedule_that_names_its_secret" {
  assert {
    condition = { for shard, one in aws_scheduler_schedule.shard : shard => jsondecode(one.target[0].input) } == { for shard, one in var.shards : shard => {
      secret_id      = one.secret_arn
      scheduled_time = "<aws.scheduler.scheduled-time>"
    } }
    error_message = "An event names another secret."
  }
  assert {
    condition     = strcontains(aws_scheduler_schedule.shard["orders"].target[0].input, "\"<aws.scheduler.scheduled-time>\"")
    error_message = "EventBridge Scheduler finds only the literal keyword."
  }
  assert {
    condition     = alltrue([for one in aws_scheduler_schedule.shard : endswith(one.target[0].arn, ":function:backstop-fleet:live") && one.flexible_time_window[0].maximum_window_in_minutes == 60 && one.group_name == "backstop-fleet"])
    error_message = "A schedule goes past the alias, the window or the group."
  }
  assert {
    condition     = aws_scheduler_schedule.shard["customers"].state == "DISABLED" && !aws_cloudwatch_metric_alarm.missing["customers"].actions_enabled
    error_message = "A disabled shard runs, or alarms."
  }
}

run "the_alarm_of_each_shard_counts_its_completions" {
  assert {
    condition     = { for shard, one in aws_cloudwatch_metric_alarm.missing : shard => [one.dimensions.Shard, one.evaluation_periods, one.treat_missing_data] } == { orders = ["orders", 28, "breaching"], customers = ["customers", 10, "breaching"] }
    error_message = "An alarm does not allow for schedule, window and completion, or ignores missing data."
  }
}

run "a_new_version_gets_everything" {
  assert {
    condition     = aws_lambda_function.backup.publish && aws_lambda_alias.live.function_version == "7" && length(aws_lambda_alias.live.routing_config) == 0
    error_message = "The alias is not at the newest version."
  }
  assert {
    condition     = aws_lambda_function_event_invoke_config.backup.qualifier == "live" && aws_lambda_function.backup.reserved_concurrent_executions == 50
    error_message = "Retries and failures of the alias are not bounded."
  }
}

run "a_canary_gets_its_share" {
  variables {
    release = { stable_version = "6", canary_weight = 0.05 }
  }
  assert {
    condition     = aws_lambda_alias.live.function_version == "6" && aws_lambda_alias.live.routing_config[0].additional_version_weights == tomap({ "7" = 0.05 })
    error_message = "The canary gets too much, or nothing."
  }
}

run "a_rollback_stays_at_the_earlier_version" {
  variables {
    release = { stable_version = "6" }
  }
  assert {
    condition     = aws_lambda_alias.live.function_version == "6" && length(aws_lambda_alias.live.routing_config) == 0
    error_message = "The newest version still runs."
  }
}

run "the_tags_reach_the_snapshots" {
  assert {
    condition     = jsondecode(aws_lambda_function.backup.environment[0].variables["BACKSTOP_SNAPSHOT_TAGS"]) == { CostCentre = "4711" }
    error_message = "The snapshots lack the tags."
  }
}

run "a_canary_without_a_stable_version" {
  command = plan
  variables {
    release = { canary_weight = 0.5 }
  }
  expect_failures = [var.release]
}

run "a_secret_that_the_function_cannot_read" {
  command = plan
  variables {
    secret_arns = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:test/*"]
  }
  expect_failures = [var.shards]
}

run "all_secrets_of_the_account" {
  command = plan
  variables {
    secret_arns = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:*"]
  }
  expect_failures = [var.secret_arns]
}

run "bad_shard" {
  command = plan
  variables {
    shards = { "Orders!" = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/orders-AbCdEf", schedule = "rate(6 hours)" } }
  }
  expect_failures = [var.shards]
}
