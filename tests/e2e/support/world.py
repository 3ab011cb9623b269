"""Resources of one Ekiden in every state that a call may find them in.

Services that are only there to be configured have an image that nobody has: they fail at once and
cost no container. Those whose state matters run the tiny image.
"""

import functools
import itertools

from . import images
from .examples import KMS_KEY, MadeUp, REPOSITORY, TAGS, VPC, image_source
from .wait import until

SMALL = {"Cpu": "256", "Memory": "128"}


class World(MadeUp):
    """Makes what examples name; what is not used up is made once."""

    numbers = itertools.count()

    def __init__(self, ekiden, client):
        super().__init__()
        self.ekiden, self.client = ekiden, client

    def name(self):
        return f"conform-{next(self.numbers)}"

    def domain(self):
        return f"d{next(self.numbers)}.example.com"

    # ---- services

    def create(self, image, **more):
        """A small service of an image; not waited for."""
        source = {"ImageRepository": {"ImageIdentifier": image, "ImageRepositoryType": "ECR",
                                      "ImageConfiguration": more.pop("configuration", {})},
                  "AutoDeploymentsEnabled": False}
        more.setdefault("InstanceConfiguration", SMALL)
        more.setdefault("ServiceName", self.name())
        return self.client.create_service(SourceConfiguration=source, **more)

    def settled(self, answer, wanted):
        """The ARN of a service when its operation is over and it is in the wanted state."""
        arn = answer["Service"]["ServiceArn"]
        if "OperationId" in answer:
            over = self.ekiden.wait_operation(arn, answer["OperationId"])
            assert self.status(arn) == wanted, over
        return arn

    def status(self, arn):
        return self.client.describe_service(ServiceArn=arn)["Service"]["Status"]

    def at_rest(self, arn):
        until("at rest", lambda: self.status(arn) != "OPERATION_IN_PROGRESS", 120,
              lambda: str(self.ekiden.operation(arn)))
        return arn

    def running_anew(self, **more):
        return self.settled(self.create(images.tiny(), **more), "RUNNING")

    def failed_anew(self, **more):
        return self.settled(self.create(self.image, **more), "CREATE_FAILED")

    @functools.cache
    def running(self):
        return self.running_anew(Tags=TAGS)

    service = tagged = with_domain = running

    @functools.cache
    def paused(self):
        arn = self.running_anew()
        return self.settled(self.client.pause_service(ServiceArn=arn), "PAUSED")

    @functools.cache
    def failed(self):
        return self.failed_anew()

    @functools.cache
    def busy(self):
        """In the middle of its first deployment for as long as the suite takes."""
        answer = self.create(images.tiny(), configuration={"StartCommand": "sleep 3600"})
        return answer["Service"]["ServiceArn"]

    @functools.cache
    def deleted(self):
        return self.settled(self.client.delete_service(ServiceArn=self.failed_anew()), "DELETED")

    PRIVATE = {"IngressConfiguration": {"IsPubliclyAccessible": False}}

    @functools.cache
    def private_with(self, state):
        if state == "RUNNING":
            return self.running_anew(NetworkConfiguration=self.PRIVATE)
        if state == "PAUSED":
            arn = self.running_anew(NetworkConfiguration=self.PRIVATE)
            return self.settled(self.client.pause_service(ServiceArn=arn), "PAUSED")
        if state == "CREATE_FAILED":
            return self.failed_anew(NetworkConfiguration=self.PRIVATE)
        if state == "DELETED":
            arn = self.failed_anew(NetworkConfiguration=self.PRIVATE)
            return self.settled(self.client.delete_service(ServiceArn=arn), "DELETED")
        busy = {"StartCommand": "sleep 3600"}
        answer = self.create(images.tiny(), configuration=busy, NetworkConfiguration=self.PRIVATE)
        return answer["Service"]["ServiceArn"]

    def private(self):
        """The private service, without an ingress connection."""
        arn = self.private_with("RUNNING")
        self.without_ingress(arn)
        return arn

    @functools.cache
    def _updatable(self):
        return self.failed_anew()

    def updatable(self):
        return self.at_rest(self._updatable())

    @functools.cache
    def _code(self):
        answer = self.client.create_service(
            ServiceName=self.name(), InstanceConfiguration=SMALL, SourceConfiguration={
                "CodeRepository": {
                    "RepositoryUrl": REPOSITORY,
                    "SourceCodeVersion": {"Type": "BRANCH", "Value": "main"},
                    "CodeConfiguration": {
                        "ConfigurationSource": "API", "CodeConfigurationValues": {
                            "Runtime": "PYTHON_311", "StartCommand": "python3 server.py",
                            "BuildCommand": "true"}}},
                "AutoDeploymentsEnabled": False,
                "AuthenticationConfiguration": {"ConnectionArn": self.connection()}})
        return self.settled(answer, "CREATE_FAILED")

    def code_updatable(self):
        return self.at_rest(self._code())

    def deletable(self):
        return self.failed_anew()

    @functools.cache
    def _changing(self):
        return self.running_anew()

    def pausable(self):
        """A running service that may be paused."""
        arn = self.at_rest(self._changing())
        if self.status(arn) == "PAUSED":
            self.settled(self.client.resume_service(ServiceArn=arn), "RUNNING")
        return arn

    deployable = pausable

    def resumable(self):
        arn = self.at_rest(self._changing())
        if self.status(arn) == "RUNNING":
            self.settled(self.client.pause_service(ServiceArn=arn), "PAUSED")
        return arn

    # ---- everything else

    def spare_connection(self, name=None):
        answer = self.client.create_connection(
            ConnectionName=name or self.name(), ProviderType="GITHUB", Tags=TAGS)
        return answer["Connection"]["ConnectionArn"]

    @functools.cache
    def connection(self):
        arn = self.spare_connection("made-up")
        self.ekiden.native("CompleteConnection", ConnectionArn=arn)
        return arn

    def spare_scaling(self, name=None):
        answer = self.client.create_auto_scaling_configuration(
            AutoScalingConfigurationName=name or self.name(), MaxSize=2, Tags=TAGS)
        return answer["AutoScalingConfiguration"]["AutoScalingConfigurationArn"]

    def spare_scaling_name(self):
        return "/".join(self.spare_scaling().split("/")[:2])

    @functools.cache
    def scaling(self):
        self.spare_scaling("made-up")
        return self.spare_scaling("made-up")

    def spare_observability(self, name=None):
        answer = self.client.create_observability_configuration(
            ObservabilityConfigurationName=name or self.name(),
            TraceConfiguration={"Vendor": "AWSXRAY"}, Tags=TAGS)
        return answer["ObservabilityConfiguration"]["ObservabilityConfigurationArn"]

    @functools.cache
    def observability(self):
        self.spare_observability("made-up")
        return self.spare_observability("made-up")

    def spare_connector(self):
        answer = self.client.create_vpc_connector(
            VpcConnectorName=self.name(), Subnets=["subnet-0123456789abcdef0"], Tags=TAGS)
        return answer["VpcConnector"]["VpcConnectorArn"]

    @functools.cache
    def connector(self):
        return self.spare_connector()

    def create_ingress(self, service):
        answer = self.client.create_vpc_ingress_connection(
            ServiceArn=service, VpcIngressConnectionName=self.name(),
            IngressVpcConfiguration=VPC, Tags=TAGS)
        return answer["VpcIngressConnection"]["VpcIngressConnectionArn"]

    def ingress_status(self, arn):
        answer = self.client.describe_vpc_ingress_connection(VpcIngressConnectionArn=arn)
        return answer["VpcIngressConnection"]["Status"]

    def ingress_is(self, arn, wanted):
        until(wanted, lambda: self.ingress_status(arn) == wanted, 60,
              lambda: self.ingress_status(arn))
        return arn

    def ingresses_of(self, service):
        answer = self.client.list_vpc_ingress_connections(Filter={"ServiceArn": service})
        return [s["VpcIngressConnectionArn"] for s in answer["VpcIngressConnectionSummaryList"]]

    def without_ingress(self, service):
        for arn in self.ingresses_of(service):
            until("at rest", lambda: not self.ingress_status(arn).startswith("PENDING"), 60)
            if self.ingress_status(arn) != "DELETED":
                self.client.delete_vpc_ingress_connection(VpcIngressConnectionArn=arn)
            self.ingress_is(arn, "DELETED")

    def spare_ingress(self):
        return self.ingress_is(self.create_ingress(self.private()), "AVAILABLE")

    @functools.cache
    def _ingress(self):
        service = self.running_anew(NetworkConfiguration=self.PRIVATE)
        return self.create_ingress(service)

    def ingress(self):
        arn = self._ingress()
        until("at rest", lambda: not self.ingress_status(arn).startswith("PENDING"), 60)
        return arn


__all__ = ["KMS_KEY", "World", "image_source"]
