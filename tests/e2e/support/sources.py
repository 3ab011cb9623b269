"""Source code that suites deploy: small applications, git repositories, and who tells of pushes."""

import base64
import contextlib
import functools
import gzip
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import unittest

from . import host, images, settings
from .case import EkidenCase
from .server import ApiFailure
from .wait import until

EXAMPLES = settings.ROOT / "examples"

# What builds are told to trust: where nothing stands between this host and the world, the usual ones.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# Programs beside those of images that these suites need.
NEEDED = ("git", "curl", "openssl", "zstd")

BUILD_SECONDS = 900

# Answers with its version, its environment, and what is in a file of its directory.
SERVER = '''\
import http.server, json, os, signal

VERSION = "{version}"

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        if name == "":
            text = VERSION
        elif name == "env":
            text = json.dumps(dict(os.environ))
        elif os.path.exists(name):
            text = open(name).read()
        else:
            return self.send_error(404)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
'''


def server(version):
    """An application in one file, `app.py`."""
    return SERVER.format(version=version)


def apprunner(*build, pre_build=(), post_build=(), pre_run=(), build_env=None, env=None, secrets=None,
              command="python3 app.py"):
    """An `apprunner.yaml`; JSON is YAML."""
    pairs = [{"name": name, "value": value} for name, value in (build_env or {}).items()]
    run_pairs = [{"name": name, "value": value} for name, value in (env or {}).items()]
    run = {"command": command, "env": run_pairs, "network": {"port": 8080}}
    if secrets:
        run["secrets"] = [{"name": n, "value-from": v} for n, v in secrets.items()]
    if pre_run:
        run["pre-run"] = list(pre_run)
    commands = {"build": list(build) or ["true"]}
    commands |= {"pre-build": list(pre_build)} if pre_build else {}
    commands |= {"post-build": list(post_build)} if post_build else {}
    return json.dumps({"version": 1.0, "runtime": "python311",
                       "build": {"commands": commands, "env": pairs}, "run": run}, indent=1)


def application(version="1", *build, **more):
    """The files of an application that is built by its `apprunner.yaml`."""
    return {"app.py": server(version), "apprunner.yaml": apprunner(*build, **more)}


def write(directory, files):
    """Writes files below a directory; one without content is removed, a path is what a link leads to."""
    for name, content in files.items():
        path = pathlib.Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, pathlib.Path):
            path.symlink_to(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)


class Repository:
    """A bare repository and somebody's clone of it."""

    def __init__(self, directory, name, files=None):
        self.bare = pathlib.Path(directory) / f"{name}.git"
        self.work = pathlib.Path(directory) / f"{name}.work"
        self.git("init", "--quiet", "--bare", "--initial-branch", "main", self.bare, of=directory)
        self.git("clone", "--quiet", self.bare, self.work, of=directory)
        self.git("checkout", "--quiet", "-B", "main")
        if files:
            self.push(files)

    @property
    def url(self):
        return str(self.bare)

    def git(self, *arguments, of=None, **options):
        environment = host.environment() | {
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "e2e", "GIT_AUTHOR_EMAIL": "e2e@example.com",
            "GIT_COMMITTER_NAME": "e2e", "GIT_COMMITTER_EMAIL": "e2e@example.com",
        }
        return host.run("git", "-c", "protocol.file.allow=always", *arguments, cwd=of or self.work,
                        env=environment, **options).strip()

    def commit(self, files, message="change"):
        """Writes files and commits everything; the commit's id."""
        write(self.work, files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def push(self, files, message="change"):
        """As `commit`, and pushes it."""
        commit = self.commit(files, message)
        self.git("push", "--quiet", "origin", "HEAD:main")
        return commit

    def tell(self, url, secret):
        """Makes every push be told, signed, by the hook of the documentation."""
        manual = (settings.ROOT / "docs/sources.md").read_text()
        hook = re.search(r"^```bash\n(#!/bin/bash\n.*?)^```$", manual, re.MULTILINE | re.DOTALL).group(1)
        write(self.bare / "hooks", {"post-receive": hook, "ekiden-url": url, "ekiden-secret": secret})
        (self.bare / "hooks/post-receive").chmod(0o755)
        (self.bare / "hooks/ekiden-secret").chmod(0o600)


class GitServer:
    """A context: repositories of a directory by HTTP, for whoever has the login, or for all."""

    def __init__(self, directory, login=None):
        self.login, self.logins = login, []
        git_server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                given = self.headers["Authorization"]
                git_server.logins.append(given)
                if git_server.login and given != basic(git_server.login):
                    return self.answer(401, [("WWW-Authenticate", 'Basic realm="e2e"')], b"")
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env={
                    "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(directory),
                    "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
                    "CONTENT_TYPE": self.headers["Content-Type"] or "",
                    "GIT_PROTOCOL": self.headers["Git-Protocol"] or ""})
                head, _, body = done.stdout.partition(b"\r\n\r\n")
                fields = [line.split(": ", 1) for line in head.decode().splitlines()]
                status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
                self.answer(status, [field for field in fields if field[0] != "Status"], body)

            do_POST = do_GET

            def answer(self, status, fields, body):
                self.send_response(status)
                for name, value in [*fields, ("Content-Length", str(len(body)))]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def host(self):
        return f"127.0.0.1:{self.listener.server_address[1]}"

    def url(self, name):
        return f"http://{self.host}/{name}.git"

    def __enter__(self):
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown()
        self.listener.server_close()


def basic(login):
    return "Basic " + base64.b64encode(login.encode()).decode()


def signature(secret, body):
    """What GitHub sends in `X-Hub-Signature-256`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@functools.cache
def base():
    """Debian with Python, as an image that builds and applications start from."""
    return images.registry().push(images.base_archive(), "e2e/debian:1")


class SourcesCase(EkidenCase):
    """An Ekiden that may build what is in a directory of its own.

    Its Python is a small image, so that a build takes a moment; classes with `own_runtimes` false have
    the runtimes that Ekiden brings.
    """

    own_runtimes = True
    sources = 'poll = "0s"\n'
    builds = ""

    @classmethod
    def start_ekiden(cls):
        cls.check_host()
        if lacking := host.missing(*NEEDED):
            raise unittest.SkipTest(f"not installed: {', '.join(lacking)}")
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"ekiden-{cls.label}-sources-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.directory.chmod(0o755)
        cls.repositories = cls.directory / "repositories"
        cls.repositories.mkdir()
        builds = f'ca_certificates = "{CERTIFICATES}"\n{cls.builds}'
        if cls.own_runtimes:
            runtimes = cls.directory / "runtimes"
            write(runtimes, {"python.yaml": json.dumps(
                {"name": "python", "image": base(), "version": "3.11",
                 "names": {"python311": {"image": base(), "version": "3.11"}}})})
            builds += f'runtimes = "{runtimes}"\n'
        cls.extra = (f'[sources]\nlocal = ["{cls.repositories}"]\n{cls.sources}'
                     f'[builds]\n{builds}')
        super().start_ekiden()

    def repository(self, name, files=None):
        return Repository(self.repositories, name, files)

    def folder(self, name, files=None):
        path = pathlib.Path(tempfile.mkdtemp(dir=self.directory)) / name
        path.mkdir()
        write(path, files or {})
        return path

    # ---- services that run code

    def begin(self, name, repository, **more):
        """Creates a service of a repository, and deletes it after the test; its ARN and its operation."""
        answer = self.ekiden.client().create_service(**code_request(name, repository, **more))
        arn = answer["Service"]["ServiceArn"]
        self.addCleanup(self.remove, arn)
        return arn, answer["OperationId"]

    def of_code(self, name, repository, **more):
        """A service that runs the code of a repository."""
        arn, operation = self.begin(name, repository, **more)
        self.succeeds(arn, operation)
        return self.described(arn)

    def fails_to_build(self, name, repository, **more):
        """Creates a service whose build must fail; the operation."""
        arn, operation = self.begin(name, repository, **more)
        return self.failed(arn, operation)

    def failed(self, arn, operation):
        over = self.ekiden.wait_operation(arn, operation, BUILD_SECONDS)
        self.assertIn(over["Status"], ("FAILED", "ROLLBACK_SUCCEEDED"), over)
        return over

    def reason(self, over):
        """Why an operation failed, in words."""
        return json.dumps(over, ensure_ascii=False)

    def succeeds(self, arn, operation):
        over = self.ekiden.wait_operation(arn, operation, BUILD_SECONDS)
        if over["Status"] != "SUCCEEDED":
            self.fail(f"{over}\n" + "\n".join(self.build_log(arn, operation)[-60:]))
        return over

    def described(self, arn):
        return self.ekiden.client().describe_service(ServiceArn=arn)["Service"]

    def deploy(self, arn):
        """Deploys what the branch is at; the operation when it has succeeded."""
        operation = self.ekiden.client().start_deployment(ServiceArn=arn)["OperationId"]
        return self.succeeds(arn, operation)

    def operations(self, arn):
        """Newest first."""
        answer = self.ekiden.client().list_operations(ServiceArn=arn, MaxResults=20)
        return answer["OperationSummaryList"]

    def page(self, service, path="/"):
        status, _, body = self.ekiden.get(service, path)
        self.assertEqual(status, 200, body)
        return body.decode()

    def shows(self, service, text, seconds=120):
        def look():
            status, _, body = self.ekiden.get(service)
            last.append((status, body))
            return (status, body.decode(errors="replace")) == (200, text)

        last = []
        arn = service["ServiceArn"]
        until(f"the page is {text}", look, seconds,
              lambda: f"{last[-1]}\n{self.operations(arn)}\n{self.ekiden.tail()}")

    def environment_of(self, service):
        return json.loads(self.page(service, "/env"))

    def build_log(self, arn, operation=None):
        """The lines of a build's log, until it is over."""
        members = {"ServiceArn": arn, "WaitSeconds": 2}
        if operation:
            members["OperationId"] = operation
        lines = []
        while True:
            try:
                page = self.ekiden.native("GetBuildLog", **members)
            except ApiFailure as failure:
                return [*lines, f"(no log: {failure})"]
            lines += [line["Text"] for line in page["Lines"]]
            if page["Over"]:
                return lines
            members |= {"From": page["Next"], "OperationId": page["OperationId"]}

    def says(self, arn, text, operation=None, seconds=300):
        """Waits until a build that goes on says something."""
        def look():
            members = {"ServiceArn": arn} | ({"OperationId": operation} if operation else {})
            try:
                page = self.ekiden.native("GetBuildLog", **members)
            except (ApiFailure, OSError, http.client.HTTPException):
                return False
            last[:] = [line["Text"] for line in page["Lines"]]
            return text in last

        last = []
        until(f"said: {text}", look, seconds, lambda: "\n".join(last) + self.ekiden.tail())

    # ---- webhooks

    def webhook(self, arn):
        """Makes a webhook; its address and its secret."""
        made = self.ekiden.native("CreateWebhook", ServiceArn=arn)
        return self.ekiden.endpoint + made["Path"], made["Secret"]

    def post(self, path, body=b"", headers=None, timeout=60):
        """One plain request to the API; its status and what it says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ekiden.api_port, timeout=timeout)
        try:
            # Whoever is refused is told so before all is sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", path.removeprefix(self.ekiden.endpoint), body, headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()

    # ---- folders, by the command line

    def deploy_folder(self, folder, *arguments, check=True):
        """`ekiden deploy`; all that it said. A service that it makes is deleted after the test."""
        done = self.ekiden.cli("deploy", folder, *arguments, check=False, timeout=BUILD_SECONDS,
                               stdin=subprocess.DEVNULL)
        name = arguments[arguments.index("--name") + 1] if "--name" in arguments else folder.name
        arn = self.arn(name)
        if arn and arn not in self.known:
            self.known.add(arn)
            self.addCleanup(self.remove, arn)
        if check and done.returncode != 0:
            self.fail(f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-12000:]}")
        return done

    @functools.cached_property
    def known(self):
        return set()

    def arn(self, name):
        found = self.ekiden.client().list_services()["ServiceSummaryList"]
        return next((s["ServiceArn"] for s in found if s["ServiceName"] == name), None)


def code_request(name, repository, branch="main", runtime=None, build="true", start="python3 app.py",
                 env=None, secrets=None, directory=None, auto=False, connection=None):
    """A CreateService request for code; with a runtime the API says how, else the repository does."""
    url = repository if isinstance(repository, str) else repository.url
    configuration = {"ConfigurationSource": "REPOSITORY"}
    if runtime:
        values = {"Runtime": runtime, "BuildCommand": build, "StartCommand": start, "Port": "8080"}
        if env:
            values["RuntimeEnvironmentVariables"] = env
        if secrets:
            values["RuntimeEnvironmentSecrets"] = secrets
        configuration = {"ConfigurationSource": "API", "CodeConfigurationValues": values}
    code = {"RepositoryUrl": url, "SourceCodeVersion": {"Type": "BRANCH", "Value": branch},
            "CodeConfiguration": configuration}
    if directory:
        code["SourceDirectory"] = directory
    source = {"CodeRepository": code, "AutoDeploymentsEnabled": auto}
    if connection:
        source["AuthenticationConfiguration"] = {"ConnectionArn": connection}
    return {"ServiceName": name, "SourceConfiguration": source,
            "InstanceConfiguration": {"Cpu": "256", "Memory": "512"}}


def marked(text):
    """Processes of this host that have a text in their arguments."""
    return [p.argv for p in host.processes() if any(text in word for word in p.argv)]

