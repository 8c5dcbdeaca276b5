# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../shared/mocks"
}

variables {
  secret_arns  = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/*"]
  repositories = [{ name = "acme-backstop" }]
  package      = { s3_bucket = "acme-artifacts", s3_key = "backstop-lambda.zip" }
}

run "both_events_of_ebs_reach_the_queue" {
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.completion.event_pattern) == {
      source      = ["aws.ec2"]
      detail-type = ["EBS Snapshot Notification", "EBS Multi-Volume Snapshots Completion Status"]
      detail      = { event = ["createSnapshot", "createSnapshots"] }
    }
    error_message = aws_cloudwatch_event_rule.completion.event_pattern
  }
  assert {
    condition     = aws_cloudwatch_event_target.completion.arn == aws_sqs_queue.events.arn && aws_cloudwatch_event_target.completion.dead_letter_config[0].arn == aws_sqs_queue.dead.arn
    error_message = "An event can be lost."
  }
  assert {
    condition = alltrue([for policy in aws_sqs_queue_policy.from_rule :
    jsondecode(policy.policy).Statement[0].Condition.ArnEquals["aws:SourceArn"] == "arn:aws:events:eu-central-1:123456789012:rule/backstop-completion"])
    error_message = "Other rules may write to the queues."
  }
}

run "a_failed_message_comes_back_alone_and_ends_in_the_dead_letter_queue" {
  assert {
    condition     = aws_lambda_event_source_mapping.events.function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "One bad message would repeat its whole batch."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.events.redrive_policy).maxReceiveCount >= 5 && jsondecode(aws_sqs_queue.events.redrive_policy).deadLetterTargetArn == aws_sqs_queue.dead.arn
    error_message = "A message is given up too early, or never."
  }
  assert {
    condition     = aws_sqs_queue.events.visibility_timeout_seconds >= 6 * aws_lambda_function.completion.timeout
    error_message = "A message could be processed twice at a time."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.events.scaling_config[0].maximum_concurrency < aws_lambda_function.completion.reserved_concurrent_executions
    error_message = "The queue could take the execution of the sweep, or be throttled."
  }
  assert {
    condition     = jsondecode(aws_scheduler_schedule.sweep.target[0].input) == { sweep = true } && aws_scheduler_schedule.sweep.flexible_time_window[0].mode == "FLEXIBLE"
    error_message = "The sweep does not run."
  }
}

run "completions_are_counted_by_shard" {
  assert {
    condition = (
      aws_cloudwatch_log_metric_filter.completed["*"].metric_transformation[0].dimensions == tomap({ Shard = "$.shard" }) &&
      aws_cloudwatch_log_metric_filter.completed["*"].pattern == "{ $.event = \"backup_completed\" && $.shard = \"*\" }"
    )
    error_message = "The alarms of the shards count nothing."
  }
}

run "many_shards_are_counted_by_several_filters" {
  variables {
    shard_patterns = [for digit in range(10) : "*${digit}"]
  }
  assert {
    condition     = length(aws_cloudwatch_log_metric_filter.completed) == 10 && strcontains(aws_cloudwatch_log_metric_filter.completed["*7"].pattern, "$.shard = \"*7\"")
    error_message = "The shards are not partitioned."
  }
}

run "the_function_marks_proven_snapshots_and_nothing_else" {
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.function.policy).Statement :
      statement.Condition["ForAllValues:StringEquals"]["aws:TagKeys"] == ["Backstop-Completion"] && statement.Condition.StringEquals["aws:ResourceTag/Backstop-State"] == "proven"
      if contains(statement.Action, "ec2:CreateTags")
    ])
    error_message = "The function may change other tags."
  }
}

run "a_function_in_a_network" {
  variables {
    subnet_ids         = ["subnet-0123456789abcdef0"]
    security_group_ids = ["sg-0123456789abcdef0"]
  }
  assert {
    condition     = aws_lambda_function.completion.vpc_config[0].security_group_ids == toset(["sg-0123456789abcdef0"])
    error_message = "The function is in no network."
  }
}

run "subnets_without_groups" {
  command = plan
  variables {
    subnet_ids = ["subnet-0123456789abcdef0"]
  }
  expect_failures = [var.subnet_ids]
}

run "bad_secret" {
  command = plan
  variables {
    secret_arns = ["*"]
  }
  expect_failures = [var.secret_arns]
}

run "bad_concurrency" {
  command = plan
  variables {
    concurrency = 2
  }
  expect_failures = [var.concurrency]
}

run "bad_pattern" {
  command = plan
  variables {
    shard_patterns = ["%a%"]
  }
  expect_failures = [var.shard_patterns]
}
