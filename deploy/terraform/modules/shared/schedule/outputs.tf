output "expression" {
  description = "Schedule expression for EventBridge Scheduler. Every other text is refused at plan time."
  value       = local.text

  precondition {
    condition     = local.fault == null
    error_message = "schedule: `${var.text}` is not a schedule: ${coalesce(local.fault, "-")}."
  }
}

output "interval_hours" {
  description = "Maximum interval between runs in hours, for a rate and for a cron expression that runs every day; otherwise null."
  value       = local.interval_hours
}
