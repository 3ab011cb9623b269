# The settings of the AWS provider's own examples, and a service on the repository's image.
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
    apprunner = var.endpoint
    ecr       = var.endpoint
    sts       = var.endpoint
  }
}

resource "aws_ecr_repository" "shop" {
  name                 = "shop/web"
  image_tag_mutability = "MUTABLE"
  force_delete         = true

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }

  tags = {
    team  = "shop"
    phase = tostring(var.phase)
  }
}

resource "aws_ecr_repository" "kept" {
  name                 = "kept"
  image_tag_mutability = var.phase == 1 ? "IMMUTABLE" : "MUTABLE"
}

resource "aws_ecr_lifecycle_policy" "shop" {
  repository = aws_ecr_repository.shop.name

  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Expire images older than 14 days"
      selection = {
        tagStatus   = "untagged"
        countType   = "sinceImagePushed"
        countUnit   = "days"
        countNumber = 14 * var.phase
      }
      action = {
        type = "expire"
      }
    }]
  })
}

resource "aws_ecr_repository_policy" "shop" {
  repository = aws_ecr_repository.shop.name

  policy = jsonencode({
    Version = "2008-10-17"
    Statement = [{
      Sid       = "pull"
      Effect    = "Allow"
      Principal = "*"
      Action    = ["ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
    }]
  })
}

resource "aws_apprunner_service" "shop" {
  count        = var.phase > 1 ? 1 : 0
  service_name = "shop"

  source_configuration {
    auto_deployments_enabled = true

    authentication_configuration {
      access_role_arn = "arn:aws:iam::100000000001:role/pull"
    }

    image_repository {
      image_identifier      = "${aws_ecr_repository.shop.repository_url}:latest"
      image_repository_type = "ECR"

      image_configuration {
        port = "8080"
      }
    }
  }
}

data "aws_ecr_repository" "shop" {
  name       = aws_ecr_repository.shop.name
  depends_on = [aws_ecr_repository.shop]
}

output "url" {
  value = data.aws_ecr_repository.shop.repository_url
}

output "service" {
  value = one(aws_apprunner_service.shop[*].service_url)
}
