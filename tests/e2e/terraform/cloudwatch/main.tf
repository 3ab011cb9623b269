# Alarms on a service, a log group, and who is told of failures, as people write them. The service is made elsewhere.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

variable "endpoint" {
  type = string
}

variable "service" {
  type = object({ name = string, id = string })
}

variable "phase" {
  type    = number
  default = 1
}

provider "aws" {
  region                      = "us-east-1"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true

  endpoints {
    apprunner        = var.endpoint
    cloudwatch       = var.endpoint
    cloudwatchevents = var.endpoint
    cloudwatchlogs   = var.endpoint
    sts              = var.endpoint
  }
}

locals {
  dimensions = {
    ServiceName = var.service.name
    ServiceID   = var.service.id
  }
}

resource "aws_cloudwatch_metric_alarm" "failures" {
  alarm_name          = "failures"
  alarm_description   = "requests fail"
  namespace           = "AWS/AppRunner"
  metric_name         = "5xxStatusResponses"
  dimensions          = local.dimensions
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  threshold           = var.phase == 1 ? 0.1 : 5
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = ["arn:aws:sns:us-east-1:100000000001:page"]
  ok_actions          = ["arn:aws:sns:us-east-1:100000000001:page"]

  tags = {
    team  = "shop"
    phase = tostring(var.phase)
  }
}

resource "aws_cloudwatch_metric_alarm" "latency" {
  alarm_name                            = "latency"
  namespace                             = "AWS/AppRunner"
  metric_name                           = "RequestLatency"
  dimensions                            = local.dimensions
  extended_statistic                    = "p99"
  unit                                  = "Milliseconds"
  period                                = 300
  evaluation_periods                    = 1
  threshold                             = 750
  comparison_operator                   = "GreaterThanOrEqualToThreshold"
  evaluate_low_sample_count_percentiles = "ignore"
  actions_enabled                       = false
}

resource "aws_cloudwatch_metric_alarm" "share" {
  alarm_name          = "share of failures"
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanThreshold"

  metric_query {
    id          = "share"
    expression  = "IF(requests > 0, 100 * failures / requests, 0)"
    label       = "percent that failed"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { requests = "Requests", failures = "5xxStatusResponses" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/AppRunner"
        metric_name = metric_query.value
        dimensions  = local.dimensions
        period      = 60
        stat        = "Sum"
      }
    }
  }
}

resource "aws_cloudwatch_log_group" "failures" {
  name              = "/aws/events/failures"
  retention_in_days = var.phase == 1 ? 7 : 30

  tags = {
    phase = tostring(var.phase)
  }
}

resource "aws_cloudwatch_log_stream" "notes" {
  name           = "notes"
  log_group_name = aws_cloudwatch_log_group.failures.name
}

resource "aws_cloudwatch_event_rule" "failures" {
  name        = "failures"
  description = "deployments that fail, and alarms"

  event_pattern = jsonencode({
    source = ["aws.apprunner", "aws.cloudwatch"]
    "$or" = [
      { detail = { operationStatus = [{ suffix = "Failed" }] } },
      { detail = { state = { value = ["ALARM"] } } },
    ]
  })

  tags = {
    phase = tostring(var.phase)
  }
}

resource "aws_cloudwatch_event_target" "failures" {
  rule      = aws_cloudwatch_event_rule.failures.name
  target_id = "log"
  arn       = aws_cloudwatch_log_group.failures.arn
}
