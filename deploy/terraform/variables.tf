variable "name" {
  description = "What everything is called."
  type        = string
  default     = "obsync"
}

variable "bucket_name" {
  description = "Name of the bucket that is made. Empty for one that AWS chooses."
  type        = string
  default     = ""
}

variable "secret_name" {
  description = "Name of the secret in Secrets Manager (obsync credentials export makes it)."
  type        = string
  default     = "obsync"
}

variable "prefix" {
  description = "What the keys of all objects begin with, without slashes at either end. Empty for none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([^/*?]+(/[^/*?]+)*)?$", var.prefix))
    error_message = "The prefix has no slash at either end and no wildcards."
  }
}

variable "vaults" {
  description = "Vaults that the schedule syncs, by name or id. Empty for those of the secret."
  type        = list(string)
  default     = []
}

variable "allow_destinations" {
  description = "Other places that events may send vaults to: BUCKET or BUCKET/PREFIX. Empty for none."
  type        = list(string)
  default     = []
}

variable "zip" {
  description = "The zip that build-lambda.sh made."
  type        = string
  default     = "../../target/lambda/obsync-lambda.zip"
}

variable "architecture" {
  description = "What the zip was built for: arm64 or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture is arm64 or x86_64."
  }
}

variable "schedule" {
  description = "When the vaults are synced, as a rate or cron expression of EventBridge."
  type        = string
  default     = "rate(15 minutes)"
}

variable "memory_size" {
  description = "Memory of the function in MB. More of it is also more processor and network."
  type        = number
  default     = 256
}

variable "timeout" {
  description = "Seconds that one invocation may take. What is left then is gone on with by the next one."
  type        = number
  default     = 900
}

variable "self_continue" {
  description = "Whether an invocation whose time was over starts the next one itself."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "KMS key to encrypt objects with. Empty for the keys of S3."
  type        = string
  default     = ""
}

variable "enable_queue" {
  description = "Whether there is a queue, one vault a message, with a queue for what keeps failing."
  type        = bool
  default     = false
}

variable "enable_function_url" {
  description = "Whether the function has a URL, for callers with AWS credentials."
  type        = bool
  default     = false
}

variable "alarm_topic_arn" {
  description = "SNS topic that is told of alarms. Empty for none."
  type        = string
  default     = ""
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
}
