output "expression" {
  description = "The schedule, as EventBridge takes it. Anything else is refused here, at plan time."
  value       = local.text

  precondition {
    condition     = local.fault == null
    error_message = "schedule: `${var.text}` is not a schedule: ${coalesce(local.fault, "-")}."
  }
}

output "interval_hours" {
  description = "How far apart its runs are at most, where that is plain: of a rate, and of a cron that runs every day. Null otherwise."
  value       = local.interval_hours
}
