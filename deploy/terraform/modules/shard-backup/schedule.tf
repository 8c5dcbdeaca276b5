module "schedule" {
  source = "../shared/schedule"
  text   = var.schedule
}

resource "aws_scheduler_schedule" "backup" {
  #checkov:skip=CKV_AWS_297:the event names a secret and holds none
  name        = local.name
  description = "Backs up the MySQL shard ${var.shard}"
  state       = var.schedule_enabled ? "ENABLED" : "DISABLED"

  schedule_expression          = module.schedule.expression
  schedule_expression_timezone = var.schedule_timezone

  # The event holds the scheduled time, whenever in the window it is sent.
  flexible_time_window {
    mode                      = var.window_minutes == 0 ? "OFF" : "FLEXIBLE"
    maximum_window_in_minutes = var.window_minutes == 0 ? null : var.window_minutes
  }

  target {
    arn      = aws_lambda_function.backup.arn
    role_arn = aws_iam_role.scheduler.arn
    input    = local.event

    # After this time, report the missed backup instead of starting it at an arbitrary time of the day.
    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 10
    }

    dead_letter_config {
      arn = aws_sqs_queue.failed.arn
    }
  }
}

locals {
  # EventBridge Scheduler replaces the keyword in angle brackets, which jsonencode would escape.
  # https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
  event = replace(replace(jsonencode({
    secret_id      = var.secret_arn
    scheduled_time = "<aws.scheduler.scheduled-time>"
  }), "\\u003c", "<"), "\\u003e", ">")
}
