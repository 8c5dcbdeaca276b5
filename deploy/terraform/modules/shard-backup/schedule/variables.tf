variable "text" {
  description = "What is to be a schedule."
  type        = string
}
