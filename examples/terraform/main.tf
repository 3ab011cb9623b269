# One web service on Ekiden, by the ordinary AWS provider. Credentials, region and endpoint come from
# the environment:
#
#     eval "$(sudo ekiden env)"
#     terraform init
#     terraform apply -var image=100000000001.dkr.ecr.us-east-1.amazonaws.com/hello:1
#
# docs/clients.md says how such an image name is pointed at a registry of your own.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {}

variable "image" {
  description = "The image, by a name of ECR's shape: Terraform itself takes no other."
  type        = string
}

variable "greeting" {
  description = "What the application is to say."
  type        = string
  default     = "Hello from Terraform!"
}

resource "aws_apprunner_auto_scaling_configuration_version" "hello" {
  auto_scaling_configuration_name = "hello"
  min_size                        = 1
  max_size                        = 2
  max_concurrency                 = 50

  # A change makes a new revision. The service must move to it before the old one can go.
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_apprunner_service" "hello" {
  service_name                   = "hello"
  auto_scaling_configuration_arn = aws_apprunner_auto_scaling_configuration_version.hello.arn

  source_configuration {
    auto_deployments_enabled = false
    # Names of ECR's shape need a role, as on App Runner; here it must only be well formed.
    authentication_configuration {
      access_role_arn = "arn:aws:iam::100000000001:role/ecr-access"
    }
    image_repository {
      image_identifier      = var.image
      image_repository_type = "ECR"
      image_configuration {
        port                          = "8080"
        runtime_environment_variables = { GREETING = var.greeting }
      }
    }
  }

  instance_configuration {
    cpu    = "256"
    memory = "512"
  }

  health_check_configuration {
    protocol = "HTTP"
    path     = "/health"
    interval = 1
  }
}

output "service_url" {
  value = "http://${aws_apprunner_service.hello.service_url}"
}
