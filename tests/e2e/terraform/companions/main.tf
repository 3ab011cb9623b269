# What App Runner's resources refer to. The tables of IAM and EC2 are moto's, which stands in for what
# Ekiden does not keep; secrets and parameters are Ekiden's own.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

variable "ekiden" {}
variable "moto" {}

provider "aws" {
  endpoints {
    sts            = var.ekiden
    secretsmanager = var.ekiden
    ssm            = var.ekiden
    ec2            = var.moto
    iam            = var.moto
  }
}

resource "aws_iam_role" "access" {
  name               = "apprunner-access"
  assume_role_policy = data.aws_iam_policy_document.trust["build.apprunner.amazonaws.com"].json
}

resource "aws_iam_role" "instance" {
  name               = "apprunner-instance"
  assume_role_policy = data.aws_iam_policy_document.trust["tasks.apprunner.amazonaws.com"].json
}

data "aws_iam_policy_document" "trust" {
  for_each = toset(["build.apprunner.amazonaws.com", "tasks.apprunner.amazonaws.com"])
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.value]
    }
  }
}

resource "aws_vpc" "this" {
  cidr_block = "10.0.0.0/16"
}

resource "aws_subnet" "this" {
  count      = 2
  vpc_id     = aws_vpc.this.id
  cidr_block = cidrsubnet(aws_vpc.this.cidr_block, 8, count.index)
}

resource "aws_security_group" "this" {
  count  = 2
  name   = "apprunner-${count.index}"
  vpc_id = aws_vpc.this.id
}

resource "aws_vpc_endpoint" "requests" {
  count             = 2
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.us-east-1.apprunner.requests"
  vpc_endpoint_type = "Interface"
}

resource "aws_secretsmanager_secret" "password" {
  name                    = "terraform/password"
  recovery_window_in_days = 0
  tags                    = { made-by = "terraform" }
}

resource "aws_secretsmanager_secret_version" "password" {
  secret_id     = aws_secretsmanager_secret.password.id
  secret_string = jsonencode({ word = "open sesame" })
}

resource "aws_ssm_parameter" "flag" {
  name  = "/terraform/flag"
  type  = "SecureString"
  value = "raised"
  tags  = { made-by = "terraform" }
}

output "access_role" { value = aws_iam_role.access.arn }
output "instance_role" { value = aws_iam_role.instance.arn }
output "vpc" { value = aws_vpc.this.id }
output "subnets" { value = aws_subnet.this[*].id }
output "security_groups" { value = aws_security_group.this[*].id }
output "endpoints" { value = aws_vpc_endpoint.requests[*].id }
output "secret" { value = aws_secretsmanager_secret_version.password.arn }
output "parameter" { value = aws_ssm_parameter.flag.arn }
