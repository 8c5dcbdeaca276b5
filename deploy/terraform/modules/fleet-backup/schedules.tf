# A module call for each distinct schedule, since most shards of a fleet have the same.
module "schedule" {
  source   = "../shared/schedule"
  for_each = toset([for one in values(var.shards) : one.schedule])
  text     = each.value
}

resource "aws_scheduler_schedule_group" "shards" {
  name = local.name
  tags = var.extra_tags
}

resource "aws_scheduler_schedule" "shard" {
  #checkov:skip=CKV_AWS_297:the event names a secret and holds none
  for_each = var.shards

  name        = each.key
  group_name  = aws_scheduler_schedule_group.shards.name
  description = "Backs up the MySQL shard ${each.key}"
  state       = each.value.enabled ? "ENABLED" : "DISABLED"

  schedule_expression          = module.schedule[each.value.schedule].expression
  schedule_expression_timezone = each.value.timezone

  # The event holds the scheduled time, whenever in the window it is sent.
  flexible_time_window {
    mode                      = var.window_minutes == 0 ? "OFF" : "FLEXIBLE"
    maximum_window_in_minutes = var.window_minutes == 0 ? null : var.window_minutes
  }

  target {
    arn      = "${local.function_arn}:${aws_lambda_alias.live.name}"
    role_arn = aws_iam_role.scheduler.arn
    # EventBridge Scheduler replaces the keyword in angle brackets, which jsonencode would escape.
    # https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
    input = replace(replace(jsonencode({
      secret_id      = each.value.secret_arn
      scheduled_time = "<aws.scheduler.scheduled-time>"
    }), "\\u003c", "<"), "\\u003e", ">")

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
