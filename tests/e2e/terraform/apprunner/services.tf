# A service from an image with every block, one behind a VPC endpoint, one with nothing but what
# must be given, and one from source code with every block.

resource "aws_apprunner_service" "web" {
  service_name                   = "webshop"
  auto_scaling_configuration_arn = aws_apprunner_auto_scaling_configuration_version.web.arn

  source_configuration {
    auto_deployments_enabled = !local.changed
    authentication_configuration {
      access_role_arn = var.companions.access_role
    }
    image_repository {
      image_identifier      = var.images[local.changed ? 1 : 0]
      image_repository_type = "ECR"
      image_configuration {
        port          = local.changed ? "8000" : "8080"
        start_command = "python3 -u /srv/app.py"
        runtime_environment_variables = {
          GREETING = local.word
        }
        runtime_environment_secrets = merge(
          { PASSWORD = "${var.companions.secret}:word::" },
          local.changed ? { FLAG = var.companions.parameter } : {},
        )
      }
    }
  }

  instance_configuration {
    cpu               = local.changed ? "512" : "1 vCPU"
    memory            = local.changed ? "1 GB" : "2048"
    instance_role_arn = var.companions.instance_role
  }

  encryption_configuration {
    kms_key = "arn:aws:kms:us-east-1:${data.aws_caller_identity.this.account_id}:key/0f0e0d0c-0b0a-4908-8706-050403020100"
  }

  health_check_configuration {
    protocol            = local.changed ? "HTTP" : "TCP"
    path                = local.changed ? "/health" : "/"
    interval            = 1
    timeout             = 2
    healthy_threshold   = 1
    unhealthy_threshold = local.changed ? 4 : 5
  }

  network_configuration {
    ip_address_type = local.changed ? "DUAL_STACK" : "IPV4"
    ingress_configuration {
      is_publicly_accessible = true
    }
    egress_configuration {
      egress_type       = "VPC"
      vpc_connector_arn = aws_apprunner_vpc_connector.inner.arn
    }
  }

  observability_configuration {
    observability_enabled           = true
    observability_configuration_arn = aws_apprunner_observability_configuration.tracing.arn
  }

  tags = local.tags
}

resource "aws_apprunner_service" "inner" {
  service_name                   = local.replaced ? "inner-2" : "inner"
  auto_scaling_configuration_arn = local.built_in

  source_configuration {
    auto_deployments_enabled = false
    image_repository {
      image_identifier      = var.small_image
      image_repository_type = "ECR_PUBLIC"
    }
  }

  network_configuration {
    ingress_configuration {
      is_publicly_accessible = false
    }
    egress_configuration {
      egress_type = "DEFAULT"
    }
  }
}

resource "aws_apprunner_service" "plain" {
  service_name = "plain"

  source_configuration {
    auto_deployments_enabled = false
    image_repository {
      image_identifier      = var.small_image
      image_repository_type = "ECR_PUBLIC"
    }
  }
}

resource "aws_apprunner_service" "code" {
  service_name = "code"

  source_configuration {
    auto_deployments_enabled = local.changed
    authentication_configuration {
      connection_arn = aws_apprunner_connection.github.arn
    }
    code_repository {
      repository_url   = var.repository
      source_directory = "/app"
      source_code_version {
        type  = "BRANCH"
        value = local.changed ? "release" : "main"
      }
      code_configuration {
        configuration_source = "API"
        code_configuration_values {
          runtime       = "PYTHON_311"
          build_command = "pip install -r requirements.txt"
          start_command = "python3 -u /srv/app.py"
          port          = "8000"
          runtime_environment_variables = {
            GREETING = local.word
          }
          runtime_environment_secrets = {
            FLAG = var.companions.parameter
          }
        }
      }
    }
  }

  instance_configuration {
    cpu    = "256"
    memory = "512"
  }

  observability_configuration {
    observability_enabled = false
  }

  tags = local.tags
}
