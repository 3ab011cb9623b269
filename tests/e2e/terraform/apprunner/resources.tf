# Every resource that is not a service. What a service uses is replaced by making the new one first.

data "aws_apprunner_hosted_zone_id" "this" {}

data "aws_caller_identity" "this" {}

resource "aws_apprunner_auto_scaling_configuration_version" "web" {
  auto_scaling_configuration_name = "webshop"
  max_concurrency                 = local.replaced ? 60 : 50
  min_size                        = 1
  max_size                        = 3
  tags                            = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_apprunner_auto_scaling_configuration_version" "spare" {
  auto_scaling_configuration_name = "spare"
}

locals {
  built_in = join(":", ["arn:aws:apprunner:us-east-1:${data.aws_caller_identity.this.account_id}",
  "autoscalingconfiguration/DefaultConfiguration/1/00000000000000000000000000000001"])
}

# The default outlives the resource, as on App Runner: a configuration that is to be destroyed must
# not be left as the default. Nor may a service use it that names none, which it does if it is created
# while this is the default: so this waits until they are there.
resource "aws_apprunner_default_auto_scaling_configuration_version" "this" {
  auto_scaling_configuration_arn = {
    1 = aws_apprunner_auto_scaling_configuration_version.web.arn
    2 = aws_apprunner_auto_scaling_configuration_version.spare.arn
    3 = local.built_in
  }[var.phase]

  depends_on = [aws_apprunner_service.code, aws_apprunner_service.plain]
}

resource "aws_apprunner_connection" "github" {
  connection_name = local.replaced ? "github-2" : "github"
  provider_type   = "GITHUB"
  tags            = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_apprunner_observability_configuration" "tracing" {
  observability_configuration_name = local.replaced ? "tracing-2" : "tracing"
  trace_configuration {
    vendor = "AWSXRAY"
  }
  tags = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_apprunner_vpc_connector" "inner" {
  vpc_connector_name = local.replaced ? "inner-2" : "inner"
  subnets            = var.companions.subnets
  security_groups    = var.companions.security_groups
  tags               = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_apprunner_vpc_ingress_connection" "inner" {
  name        = local.replaced ? "inner-2" : "inner"
  service_arn = aws_apprunner_service.inner.arn
  ingress_vpc_configuration {
    vpc_id          = var.companions.vpc
    vpc_endpoint_id = var.companions.endpoints[local.replaced ? 1 : 0]
  }
  tags = local.tags
}

resource "aws_apprunner_custom_domain_association" "www" {
  service_arn          = aws_apprunner_service.web.arn
  domain_name          = "shop.example.org"
  enable_www_subdomain = !local.replaced
}

resource "aws_apprunner_custom_domain_association" "defaults" {
  service_arn = aws_apprunner_service.web.arn
  domain_name = "example.net"
}

resource "aws_apprunner_deployment" "again" {
  count       = var.deployment ? 1 : 0
  service_arn = local.replaced ? aws_apprunner_service.code.arn : aws_apprunner_service.web.arn
}

output "hosted_zone_id" {
  value = data.aws_apprunner_hosted_zone_id.this.id
}

output "services" {
  value = {
    web   = aws_apprunner_service.web.service_url
    inner = aws_apprunner_service.inner.service_url
    plain = aws_apprunner_service.plain.service_url
    code  = aws_apprunner_service.code.service_url
  }
}
