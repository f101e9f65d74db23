# What people look at: a dashboard, if it is wanted, and saved queries of Logs Insights, which cost nothing until they run.

locals {
  # Title, statistic and metrics of each chart; the last of those on the right hand have an axis of their own there.
  charts = [
    {
      title   = "Invocations"
      stat    = "Sum"
      metrics = [for name in ["Invocations", "Errors", "Throttles", "AsyncEventsDropped"] : ["AWS/Lambda", name, "FunctionName", local.of_function.FunctionName]]
    },
    {
      title   = "Age of the oldest last success"
      stat    = "Maximum"
      metrics = [["Obsync", "oldest_success_age_s", "function_name", local.of_obsync.function_name]]
    },
    {
      title   = "What went wrong"
      stat    = "Sum"
      metrics = [for name in ["failures", "failed_files", "older_vaults", "ended_chains"] : ["Obsync", name, "function_name", local.of_obsync.function_name]]
    },
    {
      title = "What was synced"
      stat  = "Sum"
      metrics = [
        ["Obsync", "files_synced", "function_name", local.of_obsync.function_name],
        ["Obsync", "bytes_synced", "function_name", local.of_obsync.function_name, { yAxis = "right" }],
      ]
    },
    {
      title = "Time and memory of a run"
      stat  = "p99"
      metrics = [
        ["Obsync", "duration_ms", "function_name", local.of_obsync.function_name],
        ["Obsync", "memory_used_mb", "function_name", local.of_obsync.function_name, { yAxis = "right" }],
      ]
    },
  ]

  queries = {
    "vaults that failed, and why"              = <<-EOT
      filter message = "the vault could not be synced"
      | stats count(*) as times, latest(reason) as why, max(@timestamp) as last by vault_id
      | sort last desc
    EOT
    "last run of each vault, the oldest first" = <<-EOT
      filter message = "the vault is done for now"
      | stats max(@timestamp) as last, latest(status) as how, sum(files) as came, sum(deleted) as went by vault_id
      | sort last asc
    EOT
    "where the time of runs goes"              = <<-EOT
      filter message = "the vault is done for now"
      | stats count(*) as runs, avg(init_ms), avg(sign_in_ms), avg(list_ms), avg(fetch_ms), avg(publish_ms),
      avg(commit_ms), max(duration_ms), sum(s3_requests) by bin(1h)
    EOT
    "slowest runs"                             = <<-EOT
      filter message = "the vault is done for now"
      | fields @timestamp, vault_id, duration_ms, files, bytes, list_ms, fetch_ms, publish_ms, commit_ms,
      function_request_id
      | sort duration_ms desc
      | limit 50
    EOT
    "warnings and errors by message"           = <<-EOT
      filter level in ["WARN", "ERROR"]
      | stats count(*) as times, max(@timestamp) as last by level, message
      | sort last desc
    EOT
  }
}

resource "aws_cloudwatch_dashboard" "obsync" {
  count = var.enable_dashboard ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = concat(
      [
        for number, chart in local.charts : {
          type   = "metric"
          x      = number % 2 * 12
          y      = floor(number / 2) * 6
          width  = 12
          height = 6
          properties = {
            title   = chart.title
            region  = data.aws_region.current.name
            stat    = chart.stat
            period  = 900
            metrics = chart.metrics
          }
        }
      ],
      [
        {
          type   = "log"
          x      = 12
          y      = 12
          width  = 12
          height = 6
          properties = {
            title  = "Last errors"
            region = data.aws_region.current.name
            view   = "table"
            query  = "SOURCE '${aws_cloudwatch_log_group.function.name}' | fields @timestamp, message, vault_id, reason | filter level = \"ERROR\" | sort @timestamp desc | limit 20"
          }
        }
      ],
    )
  })
}

resource "aws_cloudwatch_query_definition" "obsync" {
  for_each = local.queries

  name            = "${var.name}/${each.key}"
  log_group_names = [aws_cloudwatch_log_group.function.name]
  query_string    = each.value
}
