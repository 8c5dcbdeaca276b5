variable "text" {
  description = "Schedule to check."
  type        = string
}
