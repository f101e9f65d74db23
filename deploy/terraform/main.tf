# obsync on AWS Lambda: a function that keeps a bucket in step with Obsidian vaults. The SAM template beside this folder
# makes the same.

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
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

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.function.name
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
}

resource "aws_cloudwatch_event_rule" "schedule" {
  name                = var.name
  description         = "Syncs the vaults that the secret and the settings name."
  schedule_expression = var.schedule
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

resource "aws_sqs_queue" "vaults" {
  count = var.enable_queue ? 1 : 0

  name                    = var.name
  sqs_managed_sse_enabled = true
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
}

resource "aws_lambda_event_source_mapping" "queue" {
  count = var.enable_queue ? 1 : 0

  function_name           = aws_lambda_function.obsync.arn
  event_source_arn        = aws_sqs_queue.vaults[0].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]

  depends_on = [aws_iam_role_policy.function]
}
