# What the function may do: exactly what it does.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  objects = var.prefix == "" ? "${aws_s3_bucket.vaults.arn}/*" : "${aws_s3_bucket.vaults.arn}/${var.prefix}/*"

  # Secrets Manager adds a hyphen and six characters to the name.
  secret = join(":", [
    "arn", data.aws_partition.current.partition, "secretsmanager", data.aws_region.current.name,
    data.aws_caller_identity.current.account_id, "secret", "${var.secret_name}-??????",
  ])
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = local.tags
}

data "aws_iam_policy_document" "function" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function.arn}:*"]
  }

  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = [local.objects]
  }

  # Without a condition on the prefix: with one, S3 answers the question after an object that is not there with 403
  # instead of 404.
  statement {
    # The last: whether objects expire, where what is missing is deleted in the vault.
    actions   = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetLifecycleConfiguration"]
    resources = [aws_s3_bucket.vaults.arn]
  }

  statement {
    actions = [
      "dynamodb:GetItem",
      "dynamodb:BatchGetItem",
      "dynamodb:PutItem",
      "dynamodb:UpdateItem",
      "dynamodb:DeleteItem",
      "dynamodb:ConditionCheckItem",
      "dynamodb:Scan",
    ]
    resources = [aws_dynamodb_table.state.arn]
  }

  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [local.secret]
  }

  # Multipart uploads need both.
  dynamic "statement" {
    for_each = var.kms_key_arn == "" ? [] : [var.kms_key_arn]

    content {
      actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.self_continue ? [aws_lambda_function.obsync.arn] : []

    content {
      # Called by an alias or a version, it goes on as that one.
      actions   = ["lambda:InvokeFunction"]
      resources = [statement.value, "${statement.value}:*"]
    }
  }

  dynamic "statement" {
    for_each = aws_sqs_queue.vaults[*].arn

    content {
      actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
      resources = [statement.value]
    }
  }

  # Lambda sends failed events there in the function's name.
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed_events.arn]
  }

  # An event for many vaults becomes a message for each, and what is left of one goes back to the queue. Messages that can
  # never be understood go to the other at once.
  dynamic "statement" {
    for_each = concat(aws_sqs_queue.vaults[*].arn, aws_sqs_queue.dead_letters[*].arn)

    content {
      actions   = ["sqs:SendMessage"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "function" {
  name   = "function"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.function.json
}
