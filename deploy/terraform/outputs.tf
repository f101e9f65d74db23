output "function_name" {
  description = "For aws lambda invoke."
  value       = aws_lambda_function.obsync.function_name
}

output "bucket_name" {
  description = "Where the vaults are."
  value       = aws_s3_bucket.vaults.id
}

output "state_table_name" {
  description = "For obsync status --state dynamodb://NAME."
  value       = aws_dynamodb_table.state.name
}

output "queue_url" {
  description = "For aws sqs send-message. Empty without a queue."
  value       = join("", aws_sqs_queue.vaults[*].url)
}

output "failed_events_queue_url" {
  description = "For aws sqs receive-message, to see which events failed for good."
  value       = aws_sqs_queue.failed_events.url
}

output "url" {
  description = "For requests signed with AWS credentials. Empty without a URL."
  value       = join("", aws_lambda_function_url.obsync[*].function_url)
}
