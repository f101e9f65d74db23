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

  validation {
    condition     = var.memory_size >= 128 && var.memory_size <= 10240
    error_message = "A function has from 128 to 10240 MB."
  }
}

variable "timeout" {
  description = "Seconds that one invocation may take. What is left then is gone on with by the next one."
  type        = number
  default     = 900

  validation {
    condition     = var.timeout >= 30 && var.timeout <= 900
    error_message = "An invocation has from 30 to 900 seconds."
  }
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

variable "reserved_concurrency" {
  description = "How many invocations there may be at a time, kept free for the function out of the account's limit. Null for neither."
  type        = number
  default     = null
}

variable "queue_concurrency" {
  description = "How many invocations the queue may have at a time, from 2 to 1000. Null for no limit of its own."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.queue_concurrency, 2) >= 2 && coalesce(var.queue_concurrency, 2) <= 1000
    error_message = "A queue has from 2 to 1000 invocations at a time."
  }
}

variable "log_level" {
  description = "What the function logs: TRACE, DEBUG, INFO, WARN or ERROR."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"], var.log_level)
    error_message = "There are TRACE, DEBUG, INFO, WARN and ERROR."
  }
}

variable "direction" {
  description = "Which way (experimental but for pull): with sync what others put into the bucket reaches the vault, too; with push only that. An event can narrow it."
  type        = string
  default     = "pull"

  validation {
    condition     = contains(["pull", "sync", "push"], var.direction)
    error_message = "There are pull, sync and push."
  }
}

variable "bucket_deletes" {
  description = "With the direction sync or push, an object that is missing is deleted in the vault. Refused where objects expire by a rule."
  type        = bool
  default     = false
}

variable "metrics" {
  description = "Of what there are metrics: off, function or vaults. Those of each vault cost about 2.40 USD a month for each."
  type        = string
  default     = "function"

  validation {
    condition     = contains(["off", "function", "vaults"], var.metrics)
    error_message = "There are off, function and vaults."
  }
}

variable "oldest_success_seconds" {
  description = "Age of the oldest last success of a vault at which an alarm rings: more than the schedule leaves between two, and than a first sync takes."
  type        = number
  default     = 86400

  validation {
    condition     = var.oldest_success_seconds >= 300
    error_message = "The age is 300 seconds or more."
  }
}

variable "enable_dashboard" {
  description = "Whether there is a dashboard (three of an account are free)."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags for everything, besides application = obsync."
  type        = map(string)
  default     = {}
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

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 180, 365], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 180 or 365 days."
  }
}
