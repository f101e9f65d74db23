locals {
  of_function = { FunctionName = aws_lambda_function.obsync.function_name }
  # The function's own metrics are filed under the name that it logs.
  of_obsync = { function_name = aws_lambda_function.obsync.function_name }

  # Each rings at the first of what it counts; what else it does not say is said below.
  alarms = {
    errors = {
      description = "Invocations of obsync fail as a whole. The log says why."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = local.of_function
      # Longer than a schedule usually is: the failures of two invocations need not be in one short period.
      period = 3600
    }
    failed-vaults = {
      wanted      = var.metrics != "off"
      description = "A vault cannot be synced, though others may be. The log says which and why."
      namespace   = "Obsync"
      dimensions  = local.of_obsync
      metric      = "failures"
      # Twice in two days: a schedule may be as slow as once a day.
      period     = 3600
      periods    = 49
      datapoints = 2
    }
    older-vaults = {
      wanted      = var.metrics != "off"
      description = "A vault on the server is older than what was synced of it, as after a restored backup. Nothing is removed until it has caught up."
      namespace   = "Obsync"
      dimensions  = local.of_obsync
      metric      = "older_vaults"
      period      = 3600
      periods     = 49
      datapoints  = 2
    }
    ended-chains = {
      wanted      = var.metrics != "off"
      description = "The function stopped going on by itself with work left. The log says why; the next scheduled invocation goes on."
      namespace   = "Obsync"
      dimensions  = local.of_obsync
      metric      = "ended_chains"
      period      = 3600
    }
    failed-files = {
      wanted      = var.metrics != "off"
      description = "Some files of a vault cannot be synced. An invocation's answer says which."
      namespace   = "Obsync"
      dimensions  = local.of_obsync
      metric      = "failed_files"
      statistic   = "Maximum"
      # On two days in a row.
      period  = 86400
      periods = 2
    }
    oldest-success = {
      wanted      = var.metrics != "off"
      description = "A vault was not found up to date for too long, whatever the reason. The log line \"Oldest success\" says which."
      namespace   = "Obsync"
      dimensions  = local.of_obsync
      metric      = "oldest_success_age_s"
      statistic   = "Minimum"
      period      = 3600
      threshold   = var.oldest_success_seconds
      # Invocations that fail as a whole measure nothing; then it stays what it was.
      if_missing = "ignore"
    }
    dropped-events = {
      description = "Lambda dropped an event for the function: it failed for good, was throttled for too long, or the function's concurrency is used up. The queue of failed events has it."
      namespace   = "AWS/Lambda"
      metric      = "AsyncEventsDropped"
      dimensions  = local.of_function
      period      = 300
    }
    silence = {
      description = "The function is not invoked any more."
      namespace   = "AWS/Lambda"
      metric      = "Invocations"
      dimensions  = local.of_function
      period      = 86400
      comparison  = "LessThanThreshold"
      if_missing  = "breaching"
    }
    url = {
      wanted      = var.enable_function_url
      description = "Requests to the function's URL fail."
      namespace   = "AWS/Lambda"
      metric      = "Url5xxCount"
      dimensions  = local.of_function
      period      = 300
    }
    dead-letters = {
      wanted      = var.enable_queue
      description = "A message was given up."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = one(aws_sqs_queue.dead_letters[*].name) }
      statistic   = "Maximum"
      period      = 300
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "obsync" {
  for_each = { for name, alarm in local.alarms : name => alarm if lookup(alarm, "wanted", true) }

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = lookup(each.value, "dimensions", null)
  statistic           = lookup(each.value, "statistic", "Sum")
  period              = each.value.period
  evaluation_periods  = lookup(each.value, "periods", 1)
  datapoints_to_alarm = lookup(each.value, "datapoints", null)
  threshold           = lookup(each.value, "threshold", 1)
  comparison_operator = lookup(each.value, "comparison", "GreaterThanOrEqualToThreshold")
  treat_missing_data  = lookup(each.value, "if_missing", "notBreaching")
  alarm_actions       = var.alarm_topic_arn == "" ? [] : [var.alarm_topic_arn]
  tags                = local.tags
}
