"""One valid input for each of App Runner's operations, with every member it can have.

What a member's value must be to be accepted stands in no model, so these are written by hand; what
is made of them (single members left out, constraints broken, types confused) is not.
"""

ACCOUNT = "100000000001"
REGION = "us-east-1"

REPOSITORY = "https://github.com/example/conformance"

ROLE = f"arn:aws:iam::{ACCOUNT}:role/conformance"
KMS_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-1111-2222-3333-444444444444"


def arn(kind, *parts, region=REGION, account=ACCOUNT):
    return f"arn:aws:apprunner:{region}:{account}:{'/'.join((kind, *parts))}"


class MadeUp:
    """Names of resources that nobody has: well formed, and that is all."""

    image = "localhost/conformance/none:1"
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:conformance-AbCdEf"

    def __init__(self, region=REGION, account=ACCOUNT):
        self.where = {"region": region, "account": account}

    def name(self):
        return "made-up"

    def domain(self):
        return "made-up.example.com"

    def service(self):
        return arn("service", "nobodys", "0" * 32, **self.where)

    def connection(self):
        return arn("connection", "nobodys", "0" * 32, **self.where)

    def scaling(self):
        return arn("autoscalingconfiguration", "nobodys", "1", "0" * 32, **self.where)

    def observability(self):
        return arn("observabilityconfiguration", "nobodys", "1", "0" * 32, **self.where)

    def connector(self):
        return arn("vpcconnector", "nobodys", "1", "0" * 32, **self.where)

    def ingress(self):
        return arn("vpcingressconnection", "nobodys", "0" * 32, **self.where)

    # Where an operation uses a resource up or changes it, a real world gives another one each time.
    updatable = pausable = resumable = deletable = deployable = private = tagged = service
    code_updatable = with_domain = service
    spare_connection, spare_connector = connection, connector
    spare_scaling, spare_observability, spare_ingress = scaling, observability, ingress

    def spare_scaling_name(self):
        return arn("autoscalingconfiguration", "nobodys", **self.where)


TAGS = [{"Key": "team", "Value": "web"}, {"Key": "empty", "Value": ""}]
VPC = {"VpcId": "vpc-0123456789abcdef0", "VpcEndpointId": "vpce-0123456789abcdef0"}


def image_source(world):
    return {
        "ImageRepository": {
            "ImageIdentifier": world.image,
            "ImageRepositoryType": "ECR",
            "ImageConfiguration": {
                "RuntimeEnvironmentVariables": {"GREETING": "hi"},
                "StartCommand": "httpd -f -p 8080 -h /www",
                "Port": "8080",
                "RuntimeEnvironmentSecrets": {"PASSWORD": world.secret},
            },
        },
        "AutoDeploymentsEnabled": False,
        "AuthenticationConfiguration": {"AccessRoleArn": ROLE},
    }


def code_source(world):
    return {
        "CodeRepository": {
            "RepositoryUrl": REPOSITORY,
            "SourceCodeVersion": {"Type": "BRANCH", "Value": "main"},
            "CodeConfiguration": {
                "ConfigurationSource": "API",
                "CodeConfigurationValues": {
                    "Runtime": "PYTHON_311",
                    "BuildCommand": "pip install -r requirements.txt",
                    "StartCommand": "python3 server.py",
                    "Port": "8080",
                    "RuntimeEnvironmentVariables": {"GREETING": "hi"},
                    "RuntimeEnvironmentSecrets": {"PASSWORD": world.secret},
                },
            },
            "SourceDirectory": "/",
        },
        "AutoDeploymentsEnabled": False,
        "AuthenticationConfiguration": {"ConnectionArn": world.connection()},
    }


def blocks(world):
    """What a service has beside its source, and an update can change."""
    return {
        "InstanceConfiguration": {"Cpu": "256", "Memory": "512", "InstanceRoleArn": ROLE},
        "AutoScalingConfigurationArn": world.scaling(),
        "HealthCheckConfiguration": {
            "Protocol": "HTTP", "Path": "/health", "Interval": 1, "Timeout": 2,
            "HealthyThreshold": 1, "UnhealthyThreshold": 5,
        },
        "NetworkConfiguration": {
            "EgressConfiguration": {"EgressType": "VPC", "VpcConnectorArn": world.connector()},
            "IngressConfiguration": {"IsPubliclyAccessible": True},
            "IpAddressType": "IPV4",
        },
        "ObservabilityConfiguration": {
            "ObservabilityEnabled": True,
            "ObservabilityConfigurationArn": world.observability(),
        },
    }


def page():
    """A token stands here only until there is one of the list itself."""
    return {"MaxResults": 1, "NextToken": "token"}


# Several where members exclude each other; together they have every member of the input.
EXAMPLES = {
    "AssociateCustomDomain": lambda w: [
        {"ServiceArn": w.with_domain(), "DomainName": w.domain(), "EnableWWWSubdomain": False}],
    "CreateAutoScalingConfiguration": lambda w: [
        {"AutoScalingConfigurationName": w.name(), "MaxConcurrency": 50, "MinSize": 1,
         "MaxSize": 2, "Tags": TAGS}],
    "CreateConnection": lambda w: [
        {"ConnectionName": w.name(), "ProviderType": "GITHUB", "Tags": TAGS}],
    "CreateObservabilityConfiguration": lambda w: [
        {"ObservabilityConfigurationName": w.name(), "TraceConfiguration": {"Vendor": "AWSXRAY"},
         "Tags": TAGS}],
    "CreateService": lambda w: [
        {"ServiceName": w.name(), "SourceConfiguration": image_source(w), "Tags": TAGS,
         "EncryptionConfiguration": {"KmsKey": KMS_KEY}, **blocks(w)},
        {"ServiceName": w.name(), "SourceConfiguration": code_source(w)}],
    "CreateVpcConnector": lambda w: [
        {"VpcConnectorName": w.name(), "Subnets": ["subnet-0123456789abcdef0"],
         "SecurityGroups": ["sg-0123456789abcdef0"], "Tags": TAGS}],
    "CreateVpcIngressConnection": lambda w: [
        {"ServiceArn": w.private(), "VpcIngressConnectionName": w.name(),
         "IngressVpcConfiguration": VPC, "Tags": TAGS}],
    "DeleteAutoScalingConfiguration": lambda w: [
        {"AutoScalingConfigurationArn": w.spare_scaling_name(), "DeleteAllRevisions": True}],
    "DeleteConnection": lambda w: [{"ConnectionArn": w.spare_connection()}],
    "DeleteObservabilityConfiguration": lambda w: [
        {"ObservabilityConfigurationArn": w.spare_observability()}],
    "DeleteService": lambda w: [{"ServiceArn": w.deletable()}],
    "DeleteVpcConnector": lambda w: [{"VpcConnectorArn": w.spare_connector()}],
    "DeleteVpcIngressConnection": lambda w: [{"VpcIngressConnectionArn": w.spare_ingress()}],
    "DescribeAutoScalingConfiguration": lambda w: [{"AutoScalingConfigurationArn": w.scaling()}],
    "DescribeCustomDomains": lambda w: [{"ServiceArn": w.with_domain(), **page()}],
    "DescribeObservabilityConfiguration": lambda w: [
        {"ObservabilityConfigurationArn": w.observability()}],
    "DescribeService": lambda w: [{"ServiceArn": w.service()}],
    "DescribeVpcConnector": lambda w: [{"VpcConnectorArn": w.connector()}],
    "DescribeVpcIngressConnection": lambda w: [{"VpcIngressConnectionArn": w.ingress()}],
    "DisassociateCustomDomain": lambda w: [
        {"ServiceArn": w.with_domain(), "DomainName": w.domain()}],
    "ListAutoScalingConfigurations": lambda w: [
        {"AutoScalingConfigurationName": "made-up", "LatestOnly": False, **page()}],
    "ListConnections": lambda w: [{"ConnectionName": "made-up", **page()}],
    "ListObservabilityConfigurations": lambda w: [
        {"ObservabilityConfigurationName": "made-up", "LatestOnly": False, **page()}],
    "ListOperations": lambda w: [{"ServiceArn": w.service(), **page()}],
    "ListServices": lambda w: [page()],
    "ListServicesForAutoScalingConfiguration": lambda w: [
        {"AutoScalingConfigurationArn": w.scaling(), **page()}],
    "ListTagsForResource": lambda w: [{"ResourceArn": w.service()}],
    "ListVpcConnectors": lambda w: [page()],
    "ListVpcIngressConnections": lambda w: [
        {"Filter": {"ServiceArn": w.service(), "VpcEndpointId": VPC["VpcEndpointId"]}, **page()}],
    "PauseService": lambda w: [{"ServiceArn": w.pausable()}],
    "ResumeService": lambda w: [{"ServiceArn": w.resumable()}],
    "StartDeployment": lambda w: [{"ServiceArn": w.deployable()}],
    "TagResource": lambda w: [{"ResourceArn": w.tagged(), "Tags": TAGS}],
    "UntagResource": lambda w: [{"ResourceArn": w.tagged(), "TagKeys": ["team", "unknown"]}],
    "UpdateDefaultAutoScalingConfiguration": lambda w: [
        {"AutoScalingConfigurationArn": w.scaling()}],
    "UpdateService": lambda w: [
        {"ServiceArn": w.updatable(), "SourceConfiguration": image_source(w), **blocks(w)},
        {"ServiceArn": w.code_updatable(), "SourceConfiguration": code_source(w)}],
    "UpdateVpcIngressConnection": lambda w: [
        {"VpcIngressConnectionArn": w.ingress(),
         "IngressVpcConfiguration": {**VPC, "VpcEndpointId": "vpce-0fedcba9876543210"}}],
}

_IMAGE = ("SourceConfiguration", "ImageRepository")
_CODE = ("SourceConfiguration", "CodeRepository")
_CODE_VALUES = (*_CODE, "CodeConfiguration", "CodeConfigurationValues")
_SOURCE = [_IMAGE, _CODE_VALUES, (*_CODE_VALUES, "BuildCommand"), (*_CODE_VALUES, "StartCommand"),
           ("SourceConfiguration", "AuthenticationConfiguration", "ConnectionArn")]
_VPC = [("IngressVpcConfiguration", "VpcId"), ("IngressVpcConfiguration", "VpcEndpointId")]
_EGRESS = ("NetworkConfiguration", "EgressConfiguration")

# The same of structures that many inputs have.
NEEDED_EVERYWHERE = {"Tags.Key"}

# Members that are optional in the model and not in what they mean (specification, section 5).
NEEDED = {
    "CreateService": _SOURCE,
    "UpdateService": [],
    "CreateVpcIngressConnection": _VPC,
    "UpdateVpcIngressConnection": _VPC,
}

# Members that mean nothing without another one.
TOGETHER = {
    (*_EGRESS, "EgressType"): [(*_EGRESS, "VpcConnectorArn")],
    (*_EGRESS, "VpcConnectorArn"): [(*_EGRESS, "EgressType")],
    _EGRESS: [(*_EGRESS, "EgressType"), (*_EGRESS, "VpcConnectorArn")],
    ("NextToken",): [("MaxResults",)],
    # A code service's values are only its configuration when that says so.
    (*_CODE, "CodeConfiguration"): [_CODE_VALUES],
}
