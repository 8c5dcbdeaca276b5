# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../shared/mocks"
}

variables {
  shard                = "orders"
  secret_arn           = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/orders-AbCdEf"
  schedule             = "cron(55 23 * * ? *)"
  package              = { s3_bucket = "acme-artifacts", s3_key = "backstop-lambda.zip" }
  vpc_id               = "vpc-0123456789abcdef0"
  subnet_ids           = ["subnet-0123456789abcdef0"]
  database_cidr_blocks = ["10.1.0.0/16"]
  bucket               = { name = "acme-backstop", prefix = "orders" }
}

run "the_event_names_the_secret_and_the_scheduled_time" {
  assert {
    condition = jsondecode(output.schedule_event) == {
      secret_id      = var.secret_arn
      scheduled_time = "<aws.scheduler.scheduled-time>"
    }
    error_message = output.schedule_event
  }
  assert {
    condition     = strcontains(output.schedule_event, "\"<aws.scheduler.scheduled-time>\"")
    error_message = "EventBridge Scheduler finds only the literal keyword: ${output.schedule_event}"
  }
  assert {
    condition     = aws_scheduler_schedule.backup.schedule_expression == "cron(55 23 * * ? *)"
    error_message = "The schedule differs from the variable."
  }
}

run "the_function_gets_its_repository_and_a_bounded_retry" {
  assert {
    condition     = aws_lambda_function.backup.environment[0].variables == tomap({ BACKSTOP_REPOSITORY = "s3://acme-backstop/orders", BACKSTOP_REPOSITORY_CREATE = "if-empty" })
    error_message = "The repository's URL is wrong."
  }
  assert {
    condition     = aws_lambda_function.backup.runtime == "provided.al2023" && aws_lambda_function.backup.architectures == tolist(["x86_64"])
    error_message = "The runtime does not fit the package."
  }
  assert {
    condition     = aws_lambda_function_event_invoke_config.backup.maximum_retry_attempts <= 2
    error_message = "Retries are not bounded."
  }
}

run "deletion_has_a_separate_role" {
  variables {
    prune_principals = ["arn:aws:iam::123456789012:role/housekeeping"]
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.function.policy).Statement :
      try(statement.Condition.StringEquals["aws:ResourceTag/Backstop-State"], "") == "unproven"
      if contains(statement.Action, "ec2:DeleteSnapshot")
    ])
    error_message = "The function may delete snapshots that are proven."
  }
  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_iam_role_policy.prune[0].policy).Statement : statement.Action]), "ec2:DeleteSnapshot")
    error_message = "The role for deletion cannot delete."
  }
  assert {
    condition     = !contains(flatten([for statement in jsondecode(aws_iam_role_policy.prune[0].policy).Statement : statement.Action]), "secretsmanager:GetSecretValue")
    error_message = "The role for deletion reads the secret."
  }
}

run "no_role_deletes_by_default" {
  assert {
    condition     = length(aws_iam_role.prune) == 0 && output.prune_role_arn == null
    error_message = "There is a role that deletes."
  }
}

run "tags_are_bound_to_the_snapshot_call" {
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.function.policy).Statement :
      try(statement.Condition.StringEquals["ec2:CreateAction"] == "CreateSnapshots", false) ||
      try(statement.Condition["ForAllValues:StringEquals"]["aws:TagKeys"] == ["Backstop-State"] && statement.Condition.StringEquals["aws:RequestTag/Backstop-State"] == "proven", false) ||
      try(statement.Condition["ForAllValues:StringEquals"]["aws:TagKeys"] == ["Backstop-Volume"] && statement.Condition.StringEquals["aws:ResourceTag/Backstop-State"] == "unproven", false)
      if contains(statement.Action, "ec2:CreateTags")
    ])
    error_message = "The function may tag more than the snapshots that it makes."
  }
}

run "missing_data_is_a_failure" {
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.missing_success.treat_missing_data == "breaching" &&
      aws_cloudwatch_metric_alarm.missing_success.metric_name == "BackupCompleted" &&
      aws_cloudwatch_metric_alarm.missing_success.dimensions == tomap({ Shard = "orders" })
    )
    error_message = "A backup that never ran raises no alarm."
  }
}

run "the_alarm_allows_for_schedule_window_and_completion" {
  variables {
    window_minutes = 60
    alarm          = { completion_hours = 5 }
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.missing_success.period * aws_cloudwatch_metric_alarm.missing_success.evaluation_periods == (24 + 1 + 5) * 3600
    error_message = "The alarm would go off although every backup is completed."
  }
}

run "a_weekly_schedule_is_watched_for_a_week" {
  variables {
    schedule = "cron(55 23 ? * SUN *)"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.missing_success.evaluation_periods == 168
    error_message = "The alarm would go off between backups."
  }
}

run "the_window_spreads_the_starts" {
  assert {
    condition     = aws_scheduler_schedule.backup.flexible_time_window[0].mode == "FLEXIBLE" && aws_scheduler_schedule.backup.flexible_time_window[0].maximum_window_in_minutes == 15
    error_message = "Many shards would start in the same second."
  }
}

run "no_window_if_none_is_wanted" {
  variables {
    window_minutes = 0
  }
  assert {
    condition     = aws_scheduler_schedule.backup.flexible_time_window[0].mode == "OFF" && aws_scheduler_schedule.backup.flexible_time_window[0].maximum_window_in_minutes == null
    error_message = "The backup does not start at its time."
  }
}

run "extra_tags_reach_the_snapshots" {
  variables {
    extra_tags = { CostCentre = "4711" }
  }
  assert {
    condition     = jsondecode(aws_lambda_function.backup.environment[0].variables["BACKSTOP_SNAPSHOT_TAGS"]) == { CostCentre = "4711" }
    error_message = "The snapshots lack the tags."
  }
}

run "tags_of_backstop_itself" {
  command = plan
  variables {
    extra_tags = { Backstop-State = "proven" }
  }
  expect_failures = [var.extra_tags]
}

run "bad_window" {
  command = plan
  variables {
    window_minutes = 1441
  }
  expect_failures = [var.window_minutes]
}

run "keys_are_used_through_their_services_only" {
  variables {
    secret_kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/secret"
    volume_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/volume"]
    bucket = {
      name        = "acme-backstop"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/bucket"
    }
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.function.policy).Statement :
      can(regex("^(secretsmanager|s3|ec2)\\.eu-central-1\\.amazonaws\\.com$", statement.Condition.StringEquals["kms:ViaService"]))
      if startswith(statement.Action[0], "kms:")
    ])
    error_message = "A key can be used without the service that it serves."
  }
  assert {
    condition     = length([for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement if startswith(statement.Action[0], "kms:")]) == 4
    error_message = "A key's grant is missing."
  }
}

run "use_of_endpoints_without_their_group" {
  command = plan
  variables {
    endpoints = { mode = "use" }
  }
  expect_failures = [var.endpoints]
}

run "bad_shard" {
  command = plan
  variables {
    shard = "Orders!"
  }
  expect_failures = [var.shard]
}

run "bad_schedule" {
  command = plan
  variables {
    schedule = "55 23 * * *"
  }
  expect_failures = [var.schedule]
}

run "bad_secret" {
  command = plan
  variables {
    secret_arn = "prod/orders"
  }
  expect_failures = [var.secret_arn]
}

run "bad_package" {
  command = plan
  variables {
    package = { path = "x.zip", s3_bucket = "b", s3_key = "k" }
  }
  expect_failures = [var.package]
}

run "bad_architecture" {
  command = plan
  variables {
    architecture = "arm"
  }
  expect_failures = [var.architecture]
}

run "bad_timeout" {
  command = plan
  variables {
    timeout_seconds = 901
  }
  expect_failures = [var.timeout_seconds]
}

run "bad_network" {
  command = plan
  variables {
    database_cidr_blocks = ["10.1.0.0"]
  }
  expect_failures = [var.database_cidr_blocks]
}

run "bad_prefix" {
  command = plan
  variables {
    bucket = { name = "acme-backstop", prefix = "/orders/" }
  }
  expect_failures = [var.bucket]
}

run "alarm_shorter_than_the_interval" {
  command = plan
  variables {
    alarm = { missing_after_hours = 24 }
  }
  expect_failures = [var.alarm]
}

run "alarm_beyond_the_limit_of_cloudwatch" {
  command = plan
  variables {
    alarm = { missing_after_hours = 169 }
  }
  expect_failures = [var.alarm]
}

run "shards_add_no_rule_to_a_shared_group" {
  variables {
    endpoints = { mode = "use", client_security_group_id = "sg-0123456789abcdef0" }
  }
  assert {
    condition     = contains(aws_lambda_function.backup.vpc_config[0].security_group_ids, "sg-0123456789abcdef0")
    error_message = "The function cannot reach the endpoints."
  }
}

run "shards_can_share_security_groups" {
  variables {
    security_group_ids = ["sg-0123456789abcdef0"]
  }
  assert {
    condition     = aws_lambda_function.backup.vpc_config[0].security_group_ids == toset(["sg-0123456789abcdef0"]) && output.function_security_group_id == null
    error_message = "The function has a security group of each shard."
  }
}

run "no_role_can_be_passed_by_default" {
  assert {
    condition     = !strcontains(output.recover_policy_json, "iam:PassRole")
    error_message = "The policy passes a role that was not named."
  }
}

run "drills_touch_drills_only" {
  assert {
    condition = alltrue([
      for statement in jsondecode(output.drill_policy_json).Statement : strcontains(jsonencode(statement.Condition), "\"drill-*\"")
      if contains(statement.Action, "ec2:TerminateInstances") || contains(statement.Action, "ec2:DeleteVolume")
    ])
    error_message = "A drill may destroy a recovery."
  }
}
