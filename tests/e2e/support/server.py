"""One Ekiden for a test module: its own name, directories, network and ports."""

import atexit
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials

from . import host, settings
from .wait import until

FINAL = {"SUCCEEDED", "FAILED", "ROLLBACK_SUCCEEDED", "ROLLBACK_FAILED"}
ROLES = ("edge", "control", "agent")


class Ekiden:
    """Start it with `start`, end it with `teardown`."""

    def __init__(self, label, prefix=24, extra=""):
        # One digit of the process and one of the count keep parallel runs apart.
        self.name = f"{label[:5]}{os.getpid() % 4096:03x}"
        self.base = pathlib.Path(tempfile.mkdtemp(prefix=f"ekiden-{self.name}-"))
        self.data, self.run = self.base / "data", self.base / "run"
        self.log_file = self.base / "server.log"
        self.edge_port, self.api_port = host.free_port(), host.free_port()
        self.tls_port = host.free_port()
        self.subnet = host.free_subnet(prefix)
        self.config = self.base / "ekiden.toml"
        self.process = None
        self.edge_settings = {}
        self.write_config(extra)

    def write_setting(self, key, value):
        """Changes a setting of the front door in the file; `ekiden reload` takes it into use."""
        table, name = key.split(".")
        assert table == "edge", key
        self.edge_settings[name] = value
        self.write_config(self.extra)

    def write_config(self, extra=""):
        self.extra = extra
        edge = "".join(f"{name} = {value}\n" for name, value in self.edge_settings.items())
        # The API's table is the last, so that `extra` may begin with more of it.
        self.config.write_text(
            f'name = "{self.name}"\n'
            f'data_dir = "{self.data}"\n'
            f'run_dir = "{self.run}"\n'
            f'[edge]\nlisten = ["127.0.0.1:{self.edge_port}"]\n'
            f'listen_tls = ["127.0.0.1:{self.tls_port}"]\n{edge}'
            f'[network]\nipv4 = "{self.subnet}"\n'
            f'[log]\nfile = "{self.log_file}"\n'
            f'[api]\nlisten = "127.0.0.1:{self.api_port}"\n{extra}\n'
        )
        # The roles without privileges must be able to pass through to their own directories.
        self.base.chmod(0o755)

    # ---- the server itself

    def start(self):
        atexit.register(self.abandon)
        with open(self.base / "stderr.log", "ab") as stderr:
            self.process = subprocess.Popen(
                [settings.BINARY, "server", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True,
                env=host.environment(),
            )
        self.wait_serves()
        return self

    def wait_serves(self, seconds=60):
        """Every role serves, the agent is seen by control, and the edge has the routes."""
        until("serving", self.serves, seconds, self.tail)

    def serves(self):
        if self.process is not None and self.process.poll() not in (None, -9):
            raise AssertionError(f"the server ended with {self.process.returncode}\n{self.tail()}")
        status = self.status()
        if status is None or not host.alive(status["pid"]):
            return False
        if {r["role"]: r["state"] for r in status["roles"]} != dict.fromkeys(ROLES, "ready"):
            return False
        try:
            now = self.native("GetStatus")
        except (OSError, http.client.HTTPException, ApiFailure):
            return False
        return now.get("EdgeCurrent") and now.get("EngineCurrent")

    def status(self):
        try:
            return json.loads((self.run / "status.json").read_text())
        except FileNotFoundError:
            return None

    def pid(self, role):
        """The process of a role, or of the supervisor; None while there is none."""
        status = self.status()
        if status is None:
            return None
        if role == "supervisor":
            return status["pid"]
        return next(r["pid"] for r in status["roles"] if r["role"] == role)

    def stop(self):
        pid = self.pid("supervisor")
        if pid is not None and host.alive(pid):
            host.kill(pid, signal.SIGTERM)
            until("stopped", lambda: not host.alive(pid), 180, self.tail)
        self.reap()

    def reap(self):
        if self.process is not None:
            self.process.wait()
            self.process = None

    def teardown(self):
        """Ends everything of it; what is left afterwards is an error."""
        try:
            self.stop()
            self.cli("teardown", "--yes")
            left = self.everything()
        finally:
            self.kill_all()
            shutil.rmtree(self.base, ignore_errors=True)
            atexit.unregister(self.abandon)
        if left:
            raise AssertionError(f"teardown left: {left}")

    def abandon(self):
        """Removes it when the run is interrupted."""
        with contextlib.suppress(AssertionError, OSError):
            self.teardown()

    def everything(self):
        """What there is of it on the host; empty after `teardown`."""
        found = {
            "processes": [p.argv[:4] for p in self.processes()],
            "links": host.links(self.name),
            "cgroups": host.cgroup_directories(self.name),
            "nft": host.nft_objects(self.name),
            "mounts": host.mounts([self.base]),
            "data": self.data.exists() and os.listdir(self.data),
            "run": self.run.exists() and os.listdir(self.run),
        }
        return {kind: what for kind, what in found.items() if what}

    def processes(self):
        """The supervisor, the roles, the shims, and whatever runs in instances."""
        everyone = host.processes()
        group = re.compile(rf"/ekiden-{re.escape(self.name)}(/|\.|$)", re.MULTILINE)
        status = self.status()
        roots = {p.pid for p in everyone if group.search(p.cgroup) or self.is_own(p)}
        if status:
            roots.add(status["pid"])
            roots |= {r["pid"] for r in status["roles"] if r["pid"]}
        own = host.descendants(everyone, roots)
        return [p for p in own if p.pid != os.getpid()]

    def is_own(self, process):
        binary = bool(process.argv) and process.argv[0] in (str(settings.BINARY), "/proc/self/exe")
        return binary and any(str(self.base) in argument for argument in process.argv)

    def shims(self):
        """Processes of shims, by the instance whose first process each is the parent of."""
        everyone = {p.pid: p for p in host.processes()}
        found = {}
        for process in everyone.values():
            instance = re.search(rf"/ekiden-{re.escape(self.name)}/([0-9a-f]{{32}})", process.cgroup)
            parent = everyone.get(process.parent)
            if instance and parent and parent.argv[1:] == ["shim"] \
                    and instance.group() not in parent.cgroup:
                found[instance.group(1)] = parent.pid
        return found

    def first_process(self, instance):
        """The first process of an instance, as the host numbers it."""
        inside = {p.pid: p for p in host.processes() if instance in p.cgroup}
        return next((p.pid for p in inside.values() if p.parent not in inside), None)

    def kill_all(self):
        """A power cut: everything at once, nothing gets to say goodbye."""
        while victims := [p.pid for p in self.processes()]:
            # Stopped first, so that none can react to another's death.
            for pid in victims:
                host.kill(pid, signal.SIGSTOP)
            for pid in victims:
                host.kill(pid)
            until("all dead", lambda: not any(host.alive(pid) for pid in victims))
        self.reap()

    def tail(self, lines=60):
        """The end of the logs, for the message of a failure."""
        text = ""
        for path in (self.base / "stderr.log", self.log_file):
            if path.exists():
                text += "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"
        return f"--- {self.name}: the end of its log\n{text}"

    # ---- the API

    def key(self):
        return json.loads((self.data / "control/admin-key.json").read_text())

    def client(self, service="apprunner"):
        key = self.key()
        return boto3.client(
            service, region_name=settings.REGION, endpoint_url=self.endpoint,
            aws_access_key_id=key["access_key_id"],
            aws_secret_access_key=key["secret_access_key"],
            config=botocore.config.Config(retries={"max_attempts": 5, "mode": "standard"}),
        )

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.api_port}"

    def native(self, operation, **members):
        """Calls one of Ekiden's own operations."""
        status, _, answer = self.call(f"Ekiden.{operation}", json.dumps(members))
        if status != 200:
            raise ApiFailure(operation, status, answer)
        return answer

    def call(self, target, body):
        """One signed request to the API, without a library's help: status, headers and answer."""
        key = self.key()
        request = botocore.awsrequest.AWSRequest("POST", self.endpoint + "/", data=body, headers={
            "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target,
        })
        credentials = botocore.credentials.Credentials(
            key["access_key_id"], key["secret_access_key"])
        botocore.auth.SigV4Auth(credentials, "apprunner", settings.REGION).add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=30)
        try:
            connection.request("POST", "/", body, dict(request.headers))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, json.loads(response.read() or b"{}")
        finally:
            connection.close()

    def create(self, name, image, wait=True, **more):
        """Creates a service; answers it when its operation is over, or at once."""
        answer = self.client().create_service(**service_request(name, image, **more))
        service = answer["Service"]
        if wait:
            self.wait_operation(service["ServiceArn"], answer["OperationId"])
            service = self.client().describe_service(ServiceArn=service["ServiceArn"])["Service"]
        return service

    def delete(self, arn):
        self.wait_operation(arn, self.client().delete_service(ServiceArn=arn)["OperationId"])

    def operation(self, arn, operation=None):
        members = {"ServiceArn": arn}
        if operation:
            members["OperationId"] = operation
        return self.native("DescribeOperation", **members)["Operation"]

    def wait_operation(self, arn, operation, seconds=120):
        """The operation when it is over, whatever its outcome."""
        def over():
            try:
                now = self.operation(arn, operation)
            except (OSError, http.client.HTTPException) as error:
                last.append(repr(error))  # control may be starting anew
                return None
            last.append(now)
            return now if now["Status"] in FINAL else None

        last = []
        return until(f"over: operation {operation}", over, seconds,
                     lambda: f"{last[-1:]}\n{self.instances_text(arn)}\n{self.tail()}")

    def instances(self, arn=None):
        return self.native("ListInstances", **({"ServiceArn": arn} if arn else {}))["Instances"]

    def living(self, arn=None):
        """Instances that have not ended; records of ends are kept while they count."""
        return [i for i in self.instances(arn) if i["Status"] != "EXITED"]

    def instances_text(self, arn=None):
        try:
            return json.dumps(self.instances(arn), indent=1)
        except (OSError, http.client.HTTPException, ApiFailure) as error:
            return repr(error)

    def logs(self, arn, **more):
        return [line["Text"] for line in self.native("GetLogs", ServiceArn=arn, **more)["Lines"]]

    # ---- the front door

    def get(self, service, path="/", method="GET", body=None, headers=None, timeout=40):
        """One request to a service: status, headers (names in lower case) and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.edge_port, timeout=timeout)
        try:
            where = service if isinstance(service, str) else service["ServiceUrl"]
            connection.request(method, path, body, {"Host": where, **(headers or {})})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, response.read()
        finally:
            connection.close()

    def whoami(self, service):
        status, _, body = self.get(service, "/whoami")
        assert status == 200, (status, body)
        return json.loads(body)

    # ---- the command line

    def cli(self, *arguments, check=True, timeout=300, **options):
        """Runs `ekiden`; its standard output, or all of it when `check` is false."""
        argv = [settings.BINARY, *arguments, "--config", self.config]
        options.setdefault("env", host.environment())
        if check:
            return host.run(*argv, timeout=timeout, **options)
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, **options)

    def cli_json(self, *arguments):
        return json.loads(self.cli(*arguments, "--output", "json"))


class ApiFailure(Exception):
    """An answer other than 200."""

    def __init__(self, operation, status, answer):
        super().__init__(f"{operation}: {status} {answer}")
        self.status, self.answer = status, answer


def service_request(name, image, port="8080", env=None, command=None, cpu=None, memory=None,
                    health=None):
    """A CreateService request for an image."""
    configuration = {"Port": port}
    if env:
        configuration["RuntimeEnvironmentVariables"] = env
    if command:
        configuration["StartCommand"] = command
    request = {
        "ServiceName": name,
        "SourceConfiguration": {
            "ImageRepository": {
                "ImageIdentifier": image,
                "ImageRepositoryType": "ECR",
                "ImageConfiguration": configuration,
            },
            "AutoDeploymentsEnabled": False,
        },
    }
    instance = {k: v for k, v in (("Cpu", cpu), ("Memory", memory)) if v}
    if instance:
        request["InstanceConfiguration"] = instance
    if health:
        request["HealthCheckConfiguration"] = health
    return request


def http_health(path="/health", interval=1, unhealthy=3):
    return {"Protocol": "HTTP", "Path": path, "Interval": interval, "Timeout": 2,
            "HealthyThreshold": 1, "UnhealthyThreshold": unhealthy}
