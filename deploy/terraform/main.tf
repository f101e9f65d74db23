# obsync on AWS Lambda: a function that keeps a bucket in step with Obsidian vaults. The SAM template beside this folder
# makes the same.

locals {
  tags = merge({ application = "obsync" }, var.tags)
}

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

resource "aws_lambda_function" "obsync" {
  function_name    = var.name
  filename         = var.zip
  source_code_hash = filebase64sha256(var.zip)
  handler          = "bootstrap"
  runtime          = "provided.al2023"
  architectures    = [var.architecture]
  memory_size      = var.memory_size
  timeout          = var.timeout
  role             = aws_iam_role.function.arn
  tags             = local.tags

  # What is kept free for the function out of the account's limit; -1: nothing, and no limit.
  reserved_concurrent_executions = coalesce(var.reserved_concurrency, -1)

  logging_config {
    log_format            = "JSON"
    application_log_level = var.log_level
    log_group             = aws_cloudwatch_log_group.function.name
  }

  environment {
    variables = {
      S3_BUCKET                 = aws_s3_bucket.vaults.id
      S3_PREFIX                 = var.prefix
      S3_SSE_KMS_KEY_ID         = var.kms_key_arn
      STATE_TABLE_NAME          = aws_dynamodb_table.state.name
      OBSYNC_SECRET_NAME        = var.secret_name
      OBSYNC_VAULTS             = join(",", var.vaults)
      OBSYNC_ALLOW_DESTINATIONS = join(",", var.allow_destinations)
      OBSYNC_SELF_CONTINUE      = tostring(var.self_continue)
      OBSYNC_METRICS            = var.metrics
      OBSYNC_DIRECTION          = var.direction
      OBSYNC_BUCKET_DELETES     = tostring(var.bucket_deletes)
      OBSYNC_QUEUE              = join("", aws_sqs_queue.vaults[*].url)
      OBSYNC_DEAD_LETTER_QUEUE  = join("", aws_sqs_queue.dead_letters[*].url)
    }
  }
}

# Lambda stops what looks like an endless loop after some 16 rounds. The function counts its own.
resource "aws_lambda_function_recursion_config" "obsync" {
  function_name  = aws_lambda_function.obsync.function_name
  recursive_loop = var.self_continue ? "Allow" : "Terminate"
}

resource "aws_lambda_function_event_invoke_config" "obsync" {
  function_name                = aws_lambda_function.obsync.function_name
  maximum_event_age_in_seconds = 3600
  maximum_retry_attempts       = 2

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failed_events.arn
    }
  }

  # Lambda looks whether the role may send there.
  depends_on = [aws_iam_role_policy.function]
}

resource "aws_cloudwatch_event_rule" "schedule" {
  name                = var.name
  description         = "Syncs the vaults that the secret and the settings name."
  schedule_expression = var.schedule
  tags                = local.tags
}

resource "aws_cloudwatch_event_target" "schedule" {
  rule = aws_cloudwatch_event_rule.schedule.name
  arn  = aws_lambda_function.obsync.arn
}

resource "aws_lambda_permission" "schedule" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.obsync.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.schedule.arn
}

resource "aws_lambda_function_url" "obsync" {
  count = var.enable_function_url ? 1 : 0

  function_name      = aws_lambda_function.obsync.function_name
  authorization_type = "AWS_IAM"
}

# Events that failed for good or were dropped, with what the function answered. Nothing reads it: the alarms ring, the next
# schedule goes on, and whoever looks for the reason finds it here for four days.
resource "aws_sqs_queue" "failed_events" {
  name                      = "${var.name}-failed-events"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 345600
  tags                      = local.tags
}

resource "aws_sqs_queue" "vaults" {
  count = var.enable_queue ? 1 : 0

  name                    = var.name
  sqs_managed_sse_enabled = true
  tags                    = local.tags
  # Longer than an invocation takes, so that no message is handed out twice.
  visibility_timeout_seconds = 960
  message_retention_seconds  = 345600

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters[0].arn
    # A vault that needs many invocations comes back as often as that.
    maxReceiveCount = 50
  })
}

resource "aws_sqs_queue" "dead_letters" {
  count = var.enable_queue ? 1 : 0

  name                      = "${var.name}-dead-letters"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
  tags                      = local.tags
}

resource "aws_lambda_event_source_mapping" "queue" {
  count = var.enable_queue ? 1 : 0

  function_name           = aws_lambda_function.obsync.arn
  event_source_arn        = aws_sqs_queue.vaults[0].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = local.tags

  dynamic "scaling_config" {
    for_each = var.queue_concurrency == null ? [] : [var.queue_concurrency]

    content {
      maximum_concurrency = scaling_config.value
    }
  }

  depends_on = [aws_iam_role_policy.function]
}
