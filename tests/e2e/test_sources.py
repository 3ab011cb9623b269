"""Services of code: folders, git repositories, who tells of pushes, and builds that mean harm."""

import base64
import concurrent.futures
import contextlib
import hashlib
import http.server
import io
import ipaddress
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading

from botocore.exceptions import ClientError

from support import host, images, oci, settings, sources
from support.census import census, settled
from support.repeat import Repeat
from support.server import FINAL
from support.sources import SourcesCase, apprunner, application, server
from support.wait import until

BURST = 20

# In the order of the tests.
EXAMPLES = ["go", "java", "node-express", "node-static", "php", "python-django", "python-flask",
            "ruby-rails", "rust", "static"]


class Bases(SourcesCase):
    """Folders, by `ekiden deploy`, with the runtimes that Ekiden brings."""

    label = "sfold"
    own_runtimes = False

    def example(self, name):
        """A copy of an example, to be changed."""
        path = self.folder(name)
        shutil.copytree(sources.EXAMPLES / name, path, dirs_exist_ok=True)
        return path

    def serves(self, name, text):
        """The page of a service has a text; it is healthy."""
        service = self.described(self.arn(name))
        self.assertEqual(service["Status"], "RUNNING")
        page = self.page(service)
        self.assertIn(text, page)
        return page


class Folders(Bases):
    """The way from a folder to a service, and the next one after a change."""

    def flask(self):
        """One that nobody has deployed yet."""
        folder = self.example("python-flask")
        (folder / "ekiden.yaml").unlink(missing_ok=True)
        return folder

    def test_1_a_folder_by_its_apprunner_yaml(self):
        folder = self.flask()
        said = self.deploy_folder(folder, "--health-path", "/health").stderr
        self.assertRegex(said, r"uploaded 8 files with [0-9.]+ KiB: 8 new, ")
        self.assertIn("by         apprunner.yaml", said)
        self.assertIn("Successfully built your application source code.", said)
        self.serves("python-flask", "python-flask")
        self.assertEqual((folder / "ekiden.yaml").read_text().split(), ["service:", "name:", "python-flask"])
        self.assertEqual(self.page(self.described(self.arn("python-flask")), "/health"), "ok\n")
        # Again, with nothing new; the file that was written decides nothing else.
        said = self.deploy_folder(folder).stderr
        self.assertIn(": nothing new, ", said)
        for step in ("build", "pre-run"):
            self.assertIn(f"{step}: nothing it depends on has changed", said)
        # One line; and a flag that says what is so already.
        change_version(folder / "app.py")
        said = self.deploy_folder(folder).stderr
        self.assertIn(": 1 new, ", said)
        self.serves("python-flask", "Version 2")
        said = self.deploy_folder(folder, "--build-with", "apprunner.yaml").stderr
        self.assertIn("by         apprunner.yaml", said)

    def test_2_a_folder_by_what_it_is_made_of(self):
        folder = self.flask()
        (folder / "apprunner.yaml").unlink()
        said = self.deploy_folder(folder, "--name", "detected", "--build-with", "detect").stderr
        self.assertIn("detected: Flask (requirements.txt)", said)
        self.serves("detected", "Version 1")
        change_version(folder / "app.py")
        done = self.deploy_folder(folder, "--build-with", "detect", "--output", "json", "--env", "STAGE=json")
        self.assertIn(": 2 new, ", done.stderr)
        # What is in `requirements.txt` is not installed anew.
        self.assertIn("install: nothing it depends on has changed", done.stderr)
        service = json.loads(done.stdout)
        self.assertEqual((service["ServiceName"], service["Status"]), ("detected", "RUNNING"))
        code = service["SourceConfiguration"]["CodeRepository"]
        self.assertEqual(code["RepositoryUrl"], "upload://detected")
        self.serves("detected", "Version 2")
        log = self.ekiden.cli("logs", "detected", "--build")
        self.assertIn("install: nothing it depends on has changed", log)
        # And is when it has changed.
        with open(folder / "requirements.txt", "a") as file:
            file.write("# a comment\n")
        said = self.deploy_folder(folder, "--build-with", "detect").stderr
        self.assertNotIn("nothing it depends on", said)
        # What flags said is not kept.
        seen = self.ekiden.cli("describe", "detected")
        self.assertNotIn("STAGE", seen)

    def test_3_a_folder_by_its_dockerfile(self):
        self.ekiden.cli("image", "bootstrap", "debian:bookworm", "--include",
                        "python3,python3-pip,ca-certificates", "--name",
                        "localhost/ekiden-base/python:bookworm", timeout=900)
        folder = self.flask()
        arguments = ("--name", "docker", "--build-with", "dockerfile",
                     "--build-arg", "BASE=localhost/ekiden-base/python:bookworm")
        said = self.deploy_folder(folder, *arguments).stderr
        self.assertIn("pip3 install", said)
        self.serves("docker", "Version 1")
        change_version(folder / "app.py")
        said = self.deploy_folder(folder, *arguments).stderr
        # The layers before the change are not built again.
        self.assertNotIn("Collecting", said)
        self.serves("docker", "Version 2")

    def test_4_stages_arguments_and_secrets_of_a_dockerfile(self):
        # Without a network: of what is on this machine.
        self.ekiden.cli("image", "import", images.base_archive(), "localhost/e2e/debian:1")
        self.ekiden.client("ssm").put_parameter(Name="/docker/word", Value="hidden-word", Type="SecureString")
        folder = self.folder("stages", {
            "app.py": server("stages"), "docker/web.Dockerfile": (
                "ARG BASE\nFROM ${BASE} AS build\nARG VERSION\nWORKDIR /made\nCOPY app.py .\n"
                "RUN echo \"$VERSION\" > version.txt\n"
                "RUN --mount=type=secret,id=WORD test \"$(cat /run/secrets/WORD)\" = \"$(printf hidden-; echo word)\"\n"
                "FROM ${BASE} AS final\nCOPY --from=build /made /srv\nWORKDIR /srv\nUSER 1000\n"
                "ENV OF_IMAGE=yes\nEXPOSE 9000\nCMD [\"python3\", \"app.py\"]\n"
                "FROM final AS other\nRUN false\n"),
            "ekiden.yaml": json.dumps({
                "service": {"name": "stages", "memory": "0.5 GB", "cpu": "0.25 vCPU",
                            "env": {"STAGE": "file"}},
                "build": {"dockerfile": "docker/web.Dockerfile", "target": "final",
                          "args": {"BASE": "localhost/e2e/debian:1", "VERSION": "3.10"},
                          "secrets": {"WORD": "/docker/word"}}})})
        done = self.deploy_folder(folder, "--name", "stages")
        service = self.described(self.arn("stages"))
        self.assertEqual(self.page(service), "stages")
        self.assertEqual(self.page(service, "/version.txt"), "3.10\n")
        seen = self.environment_of(service)
        self.assertEqual((seen["PORT"], seen["STAGE"], seen["OF_IMAGE"]), ("9000", "file", "yes"))
        self.assertNotIn("WORD", seen)
        self.assertNotIn("hidden-word", done.stderr + json.dumps(seen))
        self.assertEqual(service["InstanceConfiguration"]["Memory"], "512")
        # Flags go over the file.
        self.deploy_folder(folder, "--name", "stages", "--build-arg", "VERSION=4", "--port", "9001",
                           "--env", "A=b")
        self.assertEqual(self.page(service, "/version.txt"), "4\n")
        seen = self.environment_of(service)
        self.assertEqual((seen["PORT"], seen["STAGE"], seen["A"]), ("9001", "file", "b"))

    def test_5_what_is_wrong_is_told_before_anything_is_sent(self):
        folder = self.folder("wrong-file", application("1") | {
            "ekiden.yaml": "service:\n  name: x\nbuild:\n  with: magic\n"})
        done = self.deploy_folder(folder, check=False)
        self.assertNotEqual(done.returncode, 0)
        for text in ("line 2, column 9", "line 4, column 9"):
            self.assertIn(text, done.stderr)
        self.assertNotIn("uploaded", done.stderr)
        for arguments, wanted in (
                ((self.folder("empty-folder"),), "there is nothing to deploy"),
                (("/none/such",), "cannot read the folder"),
                ((folder / "app.py",), "is not a folder"),
                ((folder, "--image", "x"), "cannot be used with"),
                ((self.folder("good-file", application("1")), "--build-with", "detect", "--target", "x"),
                 "are for a Dockerfile")):
            with self.subTest(arguments=arguments):
                done = self.ekiden.cli("deploy", *arguments, check=False, stdin=subprocess.DEVNULL)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(wanted, done.stderr)

    def test_6_what_is_not_source_is_left_out(self):
        folder = self.folder("left-out", application(
            "left out", "find . -type f -o -type l | sort > files.txt") | {
            ".gitignore": "*.log\n/dist/\n", ".ekidenignore": "secret.txt\n", "x.log": "1",
            "dist/x": "1", "secret.txt": "1", "kept/y.txt": "1", ".git/config": "[core]\n",
            "sub/.git/HEAD": "x", "link.txt": pathlib.Path("kept/y.txt")})
        os.mkfifo(folder / "pipe")
        self.deploy_folder(folder, "--name", "left-out")
        files = self.page(self.described(self.arn("left-out")), "/files.txt").split()
        self.assertEqual(set(files) - {"./.gitignore", "./.ekidenignore", "./files.txt"}, {
            "./app.py", "./apprunner.yaml", "./ekiden.yaml", "./kept/y.txt", "./link.txt"})


def change_version(path):
    """Changes the one line of an example that says which version it is."""
    text = path.read_text()
    changed = re.sub(r"(?m)^(.*VERSION.*[\"'])1([\"'].*)$", r"\g<1>2\2", text, count=1)
    assert changed != text, path
    path.write_text(changed)


class Git(SourcesCase):
    """A service of a repository, by App Runner's API."""

    label = "sgit"

    def test_a_repository_runs_as_its_own_file_says(self):
        files = application("one", "echo made > made.txt", env={"STAGE": "run"}, build_env={"B": "1"})
        repository = self.repository("own", files)
        service = self.of_code("own-file", repository)
        self.assertEqual(self.page(service), "one")
        self.assertEqual(self.page(service, "/made.txt"), "made\n")
        seen = self.environment_of(service)
        self.assertEqual((seen["STAGE"], seen["PORT"]), ("run", "8080"))
        self.assertNotIn("B", seen)
        code = service["SourceConfiguration"]["CodeRepository"]
        self.assertEqual(code, {
            "RepositoryUrl": repository.url, "SourceDirectory": "/",
            "SourceCodeVersion": {"Type": "BRANCH", "Value": "main"},
            "CodeConfiguration": {"ConfigurationSource": "REPOSITORY"}})
        log = self.build_log(service["ServiceArn"])
        commit = repository.git("rev-parse", "HEAD")
        self.assertIn(f"commit {commit[:12]} change", log)
        reading = log.index("Reading apprunner.yaml config file.")
        self.assertEqual(log[reading + 1], "Successfully validate configuration file.")
        self.assertEqual(log[-1], "Successfully built your application source code.")
        # A deployment is of what the branch is at when it begins.
        repository.push({"app.py": server("two")})
        self.assertEqual(self.page(service), "one")
        self.deploy(service["ServiceArn"])
        self.assertEqual(self.page(service), "two")

    def test_a_repository_runs_as_the_api_says(self):
        repository = self.repository("api", {"app.py": server("api"), "apprunner.yaml": "not looked at: ["})
        more = {"runtime": "PYTHON_311", "build": "env > build.txt; echo made > made.txt",
                "env": {"STAGE": "run"}}
        service = self.of_code("as-api-says", repository, **more)
        self.assertEqual(self.page(service), "api")
        self.assertEqual(self.page(service, "/made.txt"), "made\n")
        self.assertEqual(self.environment_of(service)["STAGE"], "run")
        # The application's variables are not the build's.
        self.assertNotIn("STAGE=", self.page(service, "/build.txt"))
        values = service["SourceConfiguration"]["CodeRepository"]["CodeConfiguration"]
        self.assertEqual(values, {"ConfigurationSource": "API", "CodeConfigurationValues": {
            "Runtime": "PYTHON_311", "BuildCommand": more["build"], "StartCommand": "python3 app.py",
            "Port": "8080", "RuntimeEnvironmentVariables": {"STAGE": "run"}}})
        # Another configuration of the same commit.
        arn = service["ServiceArn"]
        request = sources.code_request("x", repository, **more | {"build": "echo other > made.txt"})
        answer = self.ekiden.client().update_service(
            ServiceArn=arn, SourceConfiguration=request["SourceConfiguration"])
        self.succeeds(arn, answer["OperationId"])
        self.assertEqual(self.page(service, "/made.txt"), "other\n")

    def test_a_branch_a_tag_and_a_commit_are_versions(self):
        repository = self.repository("versions", application("first"))
        first = repository.git("rev-parse", "HEAD")
        repository.push({"app.py": server("second")})
        repository.git("tag", "-a", "v2", "-m", "two")
        repository.git("push", "--quiet", "origin", "v2")
        repository.push({"app.py": server("third")})
        repository.git("checkout", "--quiet", "-b", "feature/x", first)
        repository.commit({"app.py": server("feature")})
        repository.git("push", "--quiet", "origin", "HEAD")
        for number, (version, page) in enumerate(
                ((first, "first"), ("v2", "second"), ("main", "third"), ("feature/x", "feature"))):
            with self.subTest(version=version):
                service = self.of_code(f"version-{number}", repository, branch=version)
                self.assertEqual(self.page(service), page)
                told = service["SourceConfiguration"]["CodeRepository"]["SourceCodeVersion"]
                self.assertEqual(told, {"Type": "BRANCH", "Value": version})

    def test_a_directory_of_a_repository_is_built(self):
        files = {f"services/web/{name}": text for name, text in application(
            "inner", "cat ../shared.txt > shared.txt; pwd > where.txt").items()}
        repository = self.repository("directory", files | {"services/shared.txt": "shared", "app.py": "no"})
        service = self.of_code("directory", repository, directory="services/web")
        self.assertEqual(self.page(service), "inner")
        self.assertEqual(self.page(service, "/shared.txt"), "shared")
        self.assertEqual(self.page(service, "/where.txt"), "/app/services/web\n")
        code = service["SourceConfiguration"]["CodeRepository"]
        self.assertEqual(code["SourceDirectory"], "services/web")
        over = self.fails_to_build("no-directory", repository, directory="services/none")
        self.assertIn("services/none", self.reason(over))

    def test_submodules_are_fetched_and_pointers_of_lfs_are_told(self):
        inner = self.repository("inner", {"word.txt": "from the submodule"})
        repository = self.repository("outer", application("outer"))
        repository.git("submodule", "--quiet", "add", inner.url, "lib/inner")
        # What the relative address is relative to is the repository's own.
        repository.git("submodule", "--quiet", "add", "--name", "again", "../inner.git", "lib/again")
        repository.push({"big.bin": "version https://git-lfs.github.com/spec/v1\n"
                         f"oid sha256:{'0' * 64}\nsize 12345\n"})
        service = self.of_code("submodules", repository)
        self.assertEqual(self.page(service, "/lib/inner/word.txt"), "from the submodule")
        self.assertEqual(self.page(service, "/lib/again/word.txt"), "from the submodule")
        log = "\n".join(self.build_log(service["ServiceArn"]))
        self.assertIn("warning: `big.bin` are pointers of Git LFS, which is not supported", log)

    def test_secrets_of_the_file_arrive_and_those_of_the_build_stay_there(self):
        values = {"/run/word": "arrives", "/build/word": "stays-in-the-build"}
        ssm = self.ekiden.client("ssm")
        for name, value in values.items():
            ssm.put_parameter(Name=name, Value=value, Type="SecureString")
        files = application("secrets", "test \"$WORD\" = stays-in-the-build", "test \"$PLAIN\" = text",
                            "test -z \"$RUN_WORD\"", secrets={"RUN_WORD": "/run/word"})
        files["ekiden.yaml"] = json.dumps({"build": {
            "env": {"PLAIN": "text"}, "secrets": {"WORD": "/build/word"}}})
        service = self.of_code("secrets", self.repository("secrets", files))
        seen = self.environment_of(service)
        self.assertEqual(seen["RUN_WORD"], "arrives")
        self.assertLessEqual({"WORD", "PLAIN"} & set(seen), set())
        self.assertNotIn("stays-in-the-build", json.dumps(seen))
        log = "\n".join(self.build_log(service["ServiceArn"]))
        self.assertNotIn("arrives", log)

    def test_a_failed_build_says_why_and_what_served_goes_on(self):
        repository = self.repository("fails", application("good"))
        service = self.of_code("fails", repository)
        arn = service["ServiceArn"]
        for build, wanted in (
                ("echo what-it-said >&2; exit 7", ("exited with code 7", "what-it-said")),
                ("no-such-command", ("exited with code 127", "not found"))):
            repository.push({"apprunner.yaml": apprunner(build)})
            operation = self.ekiden.client().start_deployment(ServiceArn=arn)["OperationId"]
            reason = self.reason(self.failed(arn, operation))
            for text in wanted:
                self.assertIn(text, reason)
            log = self.build_log(arn, operation)
            self.assertTrue(log[-1].startswith("Failed to build your application source code. Reason: "))
            self.assertEqual(self.page(service), "good")
        self.assertEqual(self.status(arn), "RUNNING")
        over = self.fails_to_build("no-branch", repository, branch="none")
        self.assertIn("has no branch, tag or commit `none`", self.reason(over))

    def test_an_earlier_version_is_returned_to_without_a_build(self):
        repository = self.repository("rollback", application("1", "echo 1 > made.txt"))
        service = self.of_code("rollback", repository)
        arn = service["ServiceArn"]
        for version in ("2", "3"):
            repository.push(application(version, f"echo {version} > made.txt"))
            last = self.deploy(arn)
            self.assertEqual(self.page(service), version)
        host.run("rm", "-rf", repository.bare, repository.work)
        for version in ("1", "2"):
            self.ekiden.cli("rollback", "rollback", version)
            self.assertEqual((self.page(service), self.page(service, "/made.txt")),
                             (version, f"{version}\n"))
            newest = self.operations(arn)[0]["Id"]
            self.assertNotEqual(newest, last["Id"])
            self.assertIn("has no build log", self.build_log(arn, newest)[0])
        # The newest log there is, is that of the last build.
        page = self.ekiden.native("GetBuildLog", ServiceArn=arn)
        self.assertEqual(page["OperationId"], last["Id"])


class Pushes(SourcesCase):
    """A push to a service's branch is deployed: told by a webhook."""

    label = "spush"

    def follower(self, name, files=None, **more):
        """A repository whose pushes are told, and a running service that follows it."""
        repository = self.repository(name, files or application("1"))
        service = self.of_code(name, repository, auto=True, **more)
        repository.tell(*self.webhook(service["ServiceArn"]))
        return repository, service

    def at_rest(self, service):
        arn = service["ServiceArn"]
        until("at rest", lambda: self.status(arn) != "OPERATION_IN_PROGRESS", 120, self.ekiden.tail)

    def nothing_was_deployed(self, service, control):
        """A push to another service, told later, has been deployed; so this one's was looked at."""
        repository, other = control
        with self.subTest("what is told later is deployed"):
            self.serial = getattr(self, "serial", 0) + 1
            repository.push({"app.py": server(f"later {self.serial}")})
            self.shows(other, f"later {self.serial}")
        self.at_rest(service)
        self.assertEqual(len(self.operations(service["ServiceArn"])), 1)

    def test_a_push_is_deployed_when_a_hook_tells_of_it(self):
        repository, service = self.follower("hook")
        repository.push({"app.py": server("2")})
        self.shows(service, "2")
        self.at_rest(service)
        newest = self.operations(service["ServiceArn"])[0]
        self.assertEqual((newest["Type"], newest["Status"]), ("START_DEPLOYMENT", "SUCCEEDED"))
        # One that fails is tried once, and the next is deployed.
        repository.push({"apprunner.yaml": apprunner("false")})
        until("the third operation is over", lambda: [
            o["Status"] for o in self.operations(service["ServiceArn"])][:1] == ["ROLLBACK_SUCCEEDED"], 60)
        self.assertEqual(self.page(service), "2")
        repository.push({"apprunner.yaml": apprunner("true"), "app.py": server("4")})
        self.shows(service, "4")
        self.at_rest(service)
        self.assertEqual(len(self.operations(service["ServiceArn"])), 4)

    def test_a_push_is_deployed_when_github_tells_of_it(self):
        repository = self.repository("github", application("1"))
        service = self.of_code("github", repository, auto=True)
        url, secret = self.webhook(service["ServiceArn"])
        commit = repository.push({"app.py": server("2")})
        body = json.dumps({
            "ref": "refs/heads/main", "before": "0" * 40, "after": commit, "deleted": False,
            "repository": {"clone_url": "https://github.com/e2e/e2e.git"},
            "commits": [{"added": [], "removed": [], "modified": ["app.py"]}]}).encode()
        headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "1", "Content-Type": "application/json"}
        good = sources.signature(secret, body)
        for wrong in (None, sources.signature("other", body), sources.signature(secret, body + b" "),
                      good[:-1], good.removeprefix("sha256="), "sha256=", "sha1=" + good[7:47]):
            more = {"X-Hub-Signature-256": wrong} if wrong else {}
            self.assertEqual(self.post(url, body, headers | more)[0], 401, wrong)
        # Our own kind: the time is under the signature, and must be about now.
        self.assertEqual(self.post(url, body, {"X-Ekiden-Signature-256": good})[0], 401)
        old = sources.signature(secret, b"1000000000." + body)
        self.assertEqual(self.post(url, body, {
            "X-Ekiden-Timestamp": "1000000000", "X-Ekiden-Signature-256": old})[0], 401)
        self.assertEqual(self.post(url, b"", {})[0], 401)
        # Whether there is such a service is not told.
        for path in ("us-east-1/" + "0" * 32, "us-east-1/nothing", "nowhere", "../../x"):
            self.assertEqual(self.post(f"/ekiden/webhooks/{path}", body, headers)[0], 401, path)
        ping = self.post(url, body, headers | {"X-GitHub-Event": "ping", "X-Hub-Signature-256": good})
        self.assertEqual(ping[0], 202)
        self.nothing_was_deployed(service, self.follower("github-other"))
        self.assertEqual(self.page(service), "1")
        status, said = self.post(url, body, headers | {"X-Hub-Signature-256": good})
        self.assertEqual(status, 202, said)
        self.shows(service, "2")
        self.at_rest(service)
        # The same again changes nothing, and neither does an old webhook's secret.
        self.assertEqual(self.post(url, body, headers | {"X-Hub-Signature-256": good})[0], 202)
        self.webhook(service["ServiceArn"])
        self.assertEqual(self.post(url, body, headers | {"X-Hub-Signature-256": good})[0], 401)
        self.ekiden.cli("webhook", "rm", "github")
        self.assertEqual(self.post(url, body, headers | {"X-Hub-Signature-256": good})[0], 401)
        self.assertEqual(len(self.operations(service["ServiceArn"])), 2)

    def test_a_push_during_a_deployment_is_deployed_after_it(self):
        repository, service = self.follower("during")
        arn = service["ServiceArn"]
        repository.push({"apprunner.yaml": apprunner(
            "echo waiting", "sleep 4"), "app.py": server("slow")})
        until("deployed", lambda: len(self.operations(arn)) == 2, 60)
        first = self.operations(arn)[0]["Id"]
        self.says(arn, "waiting", first)
        repository.push({"apprunner.yaml": apprunner("true"), "app.py": server("after")})
        self.assertNotIn(self.ekiden.operation(arn, first)["Status"], FINAL)
        self.shows(service, "after")
        self.at_rest(service)
        states = [operation["Status"] for operation in self.operations(arn)]
        self.assertEqual(states, ["SUCCEEDED"] * 3)

    def test_of_a_burst_the_last_is_live_and_no_answer_is_of_two(self):
        def files(number):
            return application(f"{number}", "cat part.txt > built.txt") | {"part.txt": f"{number}\n"}

        # The page is made of all that differs between two pushes.
        def whole(number):
            text = server(number).replace(
                "text = VERSION", 'text = VERSION + " " + " ".join(open("part.txt").read().split() '
                '+ open("built.txt").read().split())')
            return files(number) | {"app.py": text}

        repository, service = self.follower("burst", whole(0))
        bad, lock = [], threading.Lock()

        def once():
            status, _, body = self.ekiden.get(service)
            words = body.decode(errors="replace").split()
            if status != 200 or len(words) != 3 or len(set(words)) != 1:
                with lock:
                    bad.append((status, body))

        with Repeat(once, 2):
            for number in range(1, BURST + 1):
                repository.push(whole(number))
            self.shows(service, f"{BURST} {BURST} {BURST}")
            self.at_rest(service)
        self.assertEqual(bad, [])
        self.assertEqual(self.page(service), f"{BURST} {BURST} {BURST}")
        states = [operation["Status"] for operation in self.operations(service["ServiceArn"])]
        self.assertEqual(set(states), {"SUCCEEDED"})
        print(f"    {len(states) - 1} deployments of {BURST} pushes", flush=True)

    def test_what_is_nobodys_is_not_deployed(self):
        inner = {f"web/{name}": text for name, text in application("1").items()}
        repository, service = self.follower("inside", inner | {"other/x.txt": "1"}, directory="web")
        control = self.follower("inside-other")
        repository.push({"other/x.txt": "2"})
        self.nothing_was_deployed(service, control)
        # Another branch, a tag, and the end of a branch.
        repository.git("checkout", "--quiet", "-b", "side")
        repository.commit({"web/app.py": server("side")})
        repository.git("tag", "side-1")
        repository.git("push", "--quiet", "origin", "side", "side-1")
        repository.git("push", "--quiet", "origin", "--delete", "side")
        repository.git("checkout", "--quiet", "main")
        self.nothing_was_deployed(service, control)
        repository.push({"web/app.py": server("2")})
        self.shows(service, "2")

    def test_without_automatic_deployments_nothing_is_deployed(self):
        repository = self.repository("manual", application("1"))
        service = self.of_code("manual", repository)
        repository.tell(*self.webhook(service["ServiceArn"]))
        repository.push({"app.py": server("2")})
        self.nothing_was_deployed(service, self.follower("manual-other"))
        self.assertEqual(self.page(service), "1")
        self.deploy(service["ServiceArn"])
        self.assertEqual(self.page(service), "2")

    def test_a_push_is_deployed_after_control_was_away(self):
        repository, service = self.follower("away")
        repository.push({"app.py": server("2")})
        self.ekiden.wait_serves()
        host.kill(self.ekiden.pid("control"))
        self.ekiden.wait_serves()
        # The notice may have been lost with control; the next one brings what it was of.
        repository.push({"app.py": server("3")})
        self.shows(service, "3")


class Polls(SourcesCase):
    """A push that nobody tells of is found by asking."""

    label = "spoll"
    sources = 'poll = "1s"\n'

    def test_a_branch_that_moved_is_deployed(self):
        repository = self.repository("polled", application("1"))
        manual = self.of_code("polled-manual", repository)
        service = self.of_code("polled", repository, auto=True)
        for number in ("2", "3"):
            repository.push({"app.py": server(number)})
            self.shows(service, number)
        self.assertEqual(self.page(manual), "1")
        self.assertEqual(len(self.operations(manual["ServiceArn"])), 1)

    def test_a_remote_that_is_away_is_asked_again(self):
        repository = self.repository("comes-and-goes", application("1"))
        service = self.of_code("comes-and-goes", repository, auto=True)
        away = repository.bare.with_suffix(".away")
        repository.bare.rename(away)
        until("told of", lambda: "cannot tell whether a branch has moved" in self.ekiden.tail(500), 60)
        self.assertEqual(self.page(service), "1")
        away.rename(repository.bare)
        repository.push({"app.py": server("2")})
        self.shows(service, "2")
        self.assertEqual(len(self.operations(service["ServiceArn"])), 2)


class HostileCase(SourcesCase):
    """Builds by commands of `apprunner.yaml` and by those of a Dockerfile, beside a service that runs."""

    base = "localhost/e2e/tiny:1"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        image = oci.Image([oci.busybox_layer()])
        with tempfile.TemporaryDirectory() as directory:
            archive = image.archive(pathlib.Path(directory) / "image.tar")
            cls.ekiden.cli("image", "import", archive, cls.base)
        # What every build begins with is fetched once.
        cls.other = cls.ekiden.create("bystander", sources.base(), command="python3 -m http.server 8080",
                                      cpu="256", memory="512")
        assert cls.other["Status"] == "RUNNING", cls.other

    def ways(self, name, command, **more):
        """The same command in both kinds of build: a repository for each, one after the other."""
        yield "file", self.repository(f"{name}-file", application("1", command, **more))
        yield "dockerfile", self.repository(f"{name}-dockerfile", {
            "Dockerfile": f"FROM {self.base}\nRUN {command}\n"})

    def ends_badly(self, name, command, *wanted, **more):
        """Runs a command in both kinds of build; the reasons, and the logs, of their failures."""
        found = {}
        for way, repository in self.ways(name, command):
            with self.subTest(way=way):
                before = census(self.ekiden)
                arn, operation = self.begin(f"{name}-{way}", repository)
                over = self.failed(arn, operation)
                reason = self.reason(over)
                for text in wanted:
                    self.assertIn(text, reason)
                self.assertNotEqual(over["Status"], "SUCCEEDED")
                self.leaves_nothing(arn, before)
                found[way] = reason, self.build_log(arn, operation)
        return found

    def leaves_nothing(self, arn, before):
        """Nothing of a build is there any more but its records, and others were not disturbed."""
        until("no instance of it", lambda: not self.ekiden.living(arn), 60, self.ekiden.tail)
        kept = ("files in data", "descriptors of")
        settled(self.ekiden, before, ignore=[what for what in census(self.ekiden) if what.startswith(kept)])
        builds = self.ekiden.data / "agent/builds"
        self.assertEqual(sorted(builds.iterdir()) if builds.exists() else [], [])
        self.assertEqual(self.ekiden.get(self.other)[0], 200)


class Hostile(HostileCase):
    """Builds that mean harm, or are merely wrong."""

    label = "sharm"
    builds = 'memory = "1GiB"\ndisk = "128MiB"\ncache = "32MiB"\n'

    def test_one_that_prints_without_end_has_a_bounded_log_with_its_last_lines(self):
        line = "0123456789" * 10
        command = f"yes {line} | head -n 300000; head -c 30000000 /dev/zero | tr '\\0' x; " \
            "echo; echo the-last-line; exit 3"
        for way, (reason, log) in self.ends_badly("prints", command, "the-last-line").items():
            with self.subTest(way=way):
                self.assertLess(sum(map(len, log)), 10 << 20)
                self.assertIn("the-last-line", "\n".join(log[-20:]))
                self.assertIn(line, log)
                # Whoever left something out said so: the shim, the agent or control.
                marks = [text for text in log if "left out" in text or text.startswith("dropped ")]
                self.assertTrue(marks, log[-120:-95])
                self.assertLess(len(reason), 400_000)

    def test_one_that_forks_without_end_meets_a_bound(self):
        command = ": marker-forks; while true; do sleep 4242 & done"
        for way, (reason, _) in self.ends_badly("forks", command).items():
            with self.subTest(way=way):
                self.assertTrue("fork" in reason or "memory" in reason, reason)
        self.assertEqual(sources.marked("4242"), [])

    def test_one_that_fills_the_disk_is_ended_and_told_why(self):
        before = host.run("df", "--output=used", "-BM", self.ekiden.data)
        self.ends_badly("disk", "dd if=/dev/zero of=/big bs=1M count=2000; sleep 60", "builds.disk")
        self.ends_badly("temporary", "dd if=/dev/zero of=/tmp/big bs=1M count=2000 && sleep 600")
        print(f"    {before.split()[-1]} -> "
              f"{host.run('df', '--output=used', '-BM', self.ekiden.data).split()[-1]}", flush=True)

    def test_one_that_fills_its_cache_is_ended_or_loses_it(self):
        fill = "mkdir -p $PIP_CACHE_DIR; dd if=/dev/zero of=$PIP_CACHE_DIR/big bs=1M count="
        repository = self.repository("cache", application("1", f"{fill}2000; sleep 60"))
        over = self.fails_to_build("cache", repository)
        self.assertIn("builds.cache", self.reason(over))
        # A little too much is only lost.
        repository = self.repository("cache-2", application(
            "1", f"ls $PIP_CACHE_DIR | grep -c . > found.txt; {fill}40"))
        service = self.of_code("cache-2", repository)
        self.assertEqual(self.page(service, "/found.txt"), "0\n")
        repository.push({"app.py": server("2")})
        self.deploy(service["ServiceArn"])
        self.assertEqual(self.page(service, "/found.txt"), "0\n")
        # And what fits is found again.
        repository.push({"apprunner.yaml": apprunner(f"ls $PIP_CACHE_DIR > found.txt; {fill}4")})
        self.deploy(service["ServiceArn"])
        repository.push({"app.py": server("4")})
        self.deploy(service["ServiceArn"])
        self.assertEqual(self.page(service, "/found.txt"), "big\n")

    def test_one_that_takes_all_memory_is_ended_and_told_why(self):
        found = self.ends_badly("memory", "tail /dev/zero")
        self.assertIn("builds.memory", found["file"][0])
        self.assertIn("memory", found["dockerfile"][0])
        self.ends_badly("shared", "dd if=/dev/zero of=/dev/shm/big bs=1M count=2000")

    def test_what_it_leaves_running_is_gone_with_it(self):
        command = "(setsid sleep 4343 > /dev/null 2>&1 &) ; (sleep 4343 &); sleep 1"
        for way, repository in self.ways("daemon", command):
            with self.subTest(way=way):
                arn, operation = self.begin(f"daemon-{way}", repository)
                until("running", lambda: sources.marked("4343"), 60, self.ekiden.tail)
                over = self.ekiden.wait_operation(arn, operation)
                if way == "file":
                    self.assertEqual(over["Status"], "SUCCEEDED", over)
                # The image of the other one has nothing to run that answers, and that is another matter.
                until("gone", lambda: not sources.marked("4343"), 30, lambda: str(sources.marked("4343")))

    def test_one_reaches_neither_ekiden_nor_instances_nor_this_host(self):
        listener = http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler)
        self.addCleanup(listener.server_close)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        self.addCleanup(listener.shutdown)
        port = listener.server_address[1]
        gateway = str(next(ipaddress.ip_network(self.ekiden.subnet).hosts()))
        own = json.loads(host.run("ip", "-json", "-4", "route", "get", "192.0.2.1"))[0]["prefsrc"]
        instance = next(i["Address"] for i in self.ekiden.living(self.other["ServiceArn"]))
        places = [f"{address}:{p}" for address in (gateway, own, "127.0.0.1")
                  for p in (port, self.ekiden.api_port, self.ekiden.edge_port)] + [instance]
        tries = "; ".join(f"try {place}" for place in places)
        command = ("try() { if wget -q -T 3 -O /dev/null http://$1/; then echo reached $1; fi; }; "
                   f"{tries}; echo sockets $(find / -xdev -type s 2>/dev/null | head); echo tried; exit 9")
        python = ("python3 -c 'import sys, urllib.request\n"
                  "for place in sys.argv[1:]:\n"
                  "  try: urllib.request.urlopen(f\"http://{place}/\", timeout=3)\n"
                  "  except OSError as error: print(place, error)\n"
                  "  else: print(\"reached\", place)\n"
                  f"' {' '.join(places)}; echo sockets $(find / -xdev -type s | head); echo tried; exit 9")
        logs = {}
        repository = self.repository("reach-file", application("1", python))
        arn, operation = self.begin("reach-file", repository)
        self.failed(arn, operation)
        logs["file"] = self.build_log(arn, operation)
        repository = self.repository("reach-dockerfile", {
            "Dockerfile": f"FROM {self.base}\nRUN {command}\n"})
        arn, operation = self.begin("reach-dockerfile", repository)
        self.failed(arn, operation)
        logs["dockerfile"] = self.build_log(arn, operation)
        for way, log in logs.items():
            with self.subTest(way=way):
                self.assertTrue(any(text.strip() == "tried" for text in log), log)
                self.assertEqual([text for text in log if text.startswith("reached")], [])
                self.assertEqual([text.split()[1:] for text in log if text.startswith("sockets")], [[]])

    def test_one_has_no_rights_over_this_host(self):
        # What each would give: the host's devices, its kernel's settings and memory, its files.
        commands = ["mknod /dev/disk b 8 0 && cat /dev/disk | head -c 1",
                    "cat /proc/kcore | head -c 1 | grep -q .", "echo 1 > /proc/sys/kernel/sysrq",
                    "echo 0 > /sys/kernel/mm/ksm/run",
                    "test \"$(cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f3)\" = 0",
                    f"test -e {self.ekiden.data}", f"test -e {self.ekiden.run}"]
        text = "; ".join(f"if ({command}) 2> /dev/null; then echo 'can-{number}'; fi"
                         for number, command in enumerate(commands))
        repository = self.repository("rights", application("1", text, "cat /proc/self/uid_map", "exit 9"))
        arn, operation = self.begin("rights", repository)
        self.failed(arn, operation)
        log = self.build_log(arn, operation)
        self.assertEqual([line for line in log if line.startswith("can-")], [], log)

    def test_a_cancelled_build_ends_at_once_and_leaves_nothing(self):
        for way, repository in self.ways("cancel", "echo begun; sleep 4444"):
            with self.subTest(way=way):
                before = census(self.ekiden)
                name = f"cancel-{way}"
                arn, operation = self.begin(name, repository)
                # A shell may become its last command, which has no `sleep 4444` in one word.
                until("building", lambda: sources.marked("4444"), 60, self.ekiden.tail)
                self.ekiden.cli("cancel", name)
                over = self.failed(arn, operation)
                self.assertIn("cancel", self.reason(over).lower())
                until("gone", lambda: not sources.marked("4444"), 30, self.ekiden.tail)
                self.assertEqual(self.status(arn), "CREATE_FAILED")
                self.assertEqual(self.ekiden.living(arn), [])
                self.assertIn(name, self.ekiden.cli("ps"))
                self.leaves_nothing(arn, before)

    def test_a_service_that_is_cancelled_while_it_builds_goes_on_serving(self):
        repository = self.repository("goes-on", application("1"))
        service = self.of_code("goes-on", repository)
        arn = service["ServiceArn"]
        repository.push({"apprunner.yaml": apprunner("sleep 4545")})
        operation = self.ekiden.client().start_deployment(ServiceArn=arn)["OperationId"]
        until("building", lambda: sources.marked("4545"), 60, self.ekiden.tail)
        self.assertEqual(self.page(service), "1")
        self.ekiden.cli("cancel", "goes-on")
        self.failed(arn, operation)
        self.assertEqual(self.status(arn), "RUNNING")
        self.assertEqual(self.page(service), "1")
        until("gone", lambda: not sources.marked("4545"), 30, self.ekiden.tail)


class Endless(HostileCase):
    """Builds that never end."""

    label = "sendl"
    builds = 'time_limit = "8s"\nmemory = "1GiB"\n'

    def test_one_that_never_ends_is_ended(self):
        self.ends_badly("endless", "echo begun; sleep 4646", "builds.time_limit", "begun")
        until("gone", lambda: not sources.marked("4646"), 30, self.ekiden.tail)

    def test_one_that_prints_and_never_ends_is_ended(self):
        for way, (_, log) in self.ends_badly("ever", "yes marker-4747", "builds.time_limit").items():
            with self.subTest(way=way):
                self.assertLess(sum(map(len, log)), 10 << 20)
        until("gone", lambda: not sources.marked("4747"), 30, self.ekiden.tail)

    def test_one_that_will_not_be_ended_is_ended(self):
        self.ends_badly("deaf", "trap '' TERM INT HUP; while true; do sleep 4848; done", "builds.time_limit")
        until("gone", lambda: not sources.marked("4848"), 30, self.ekiden.tail)


class Kills(HostileCase):
    """Parts of Ekiden are killed in the middle of a build: it ends well, or it fails and says why."""

    label = "skill"

    def kill(self, role):
        pid = self.ekiden.pid(role)
        host.kill(pid)
        until(f"dead: the {role}", lambda: not host.alive(pid))
        until(f"another {role}", lambda: self.ekiden.pid(role) not in (None, pid), 30, self.ekiden.tail)
        self.ekiden.wait_serves()

    def kill_during_builds(self, role):
        before = census(self.ekiden)
        for way, repository in self.ways(f"kill-{role}", "echo begun; sleep 5.151; echo slept"):
            with self.subTest(way=way):
                arn, operation = self.begin(f"kill-{role}-{way}", repository)
                until("building", lambda: sources.marked("5.151"), 60, self.ekiden.tail)
                self.kill(role)
                over = self.ekiden.wait_operation(arn, operation, 120)
                print(f"    {role}, {way}: {over['Status']} {over.get('Failure')}", flush=True)
                if over["Status"] == "SUCCEEDED":
                    self.assertEqual(self.ekiden.get(self.described(arn))[0], 200)
                    self.assertIn("slept", self.build_log(arn, operation))
                else:
                    self.assertEqual(over["Status"], "FAILED", over)
                    self.assertTrue(over["Failure"]["Reason"])
                until("no build of it", lambda: not sources.marked("5.151"), 60, self.ekiden.tail)
                self.remove(arn)
                self.leaves_nothing(arn, before)

    def test_control(self):
        self.kill_during_builds("control")

    def test_agent(self):
        self.kill_during_builds("agent")

    def test_supervisor(self):
        self.kill_during_builds("supervisor")

    def test_all_at_once(self):
        before = census(self.ekiden)
        begun = []
        for way, repository in self.ways("kill-all", "echo begun; sleep 5.252; echo slept"):
            begun.append((way, *self.begin(f"kill-all-{way}", repository)))
        until("building", lambda: len([a for a in sources.marked("5.252") if a[0] == "sleep"]) == 2, 60,
              self.ekiden.tail)
        self.ekiden.kill_all()
        # As after a power cut, this one's own memory is the disk.
        self.ekiden.start()
        for way, arn, operation in begun:
            with self.subTest(way=way):
                over = self.ekiden.wait_operation(arn, operation, 120)
                print(f"    all, {way}: {over['Status']} {over.get('Failure')}", flush=True)
                until("no build of it", lambda: not sources.marked("5.252"), 60, self.ekiden.tail)
                self.remove(arn)
        self.other = self.described(self.other["ServiceArn"])
        until("serving", lambda: self.ekiden.get(self.other)[0] == 200, 60, self.ekiden.tail)
        self.leaves_nothing(begun[0][1], before)


class KilledBases(Bases):
    """The agent is killed, or nobody wants it any more, while a base is made of Debian's packages."""

    label = "skbas"

    def made(self):
        """Where systems are being made, or were and are still there."""
        return set((self.ekiden.data / "bases").glob("*/mmdebstrap.*"))

    def begun(self, name, example):
        """Begins to deploy a folder, until its base is being made; each test has one that is not there."""
        folder = self.example(example)
        (folder / "apprunner.yaml").unlink()
        self.deploy_folder(folder, "--name", name, "--build-with", "detect", "--no-wait")
        until("begun", lambda: any(path.joinpath("var").exists() for path in self.made()), 120,
              self.ekiden.tail)

    def left(self):
        """Directories of bases, and processes that work in one."""
        bases = str(self.ekiden.data / "bases")
        working = [process.argv for process in host.processes()
                   if any(bases in word for word in process.argv)]
        return sorted(self.made()), working, host.mounts(self.made())

    def nothing_is_left(self):
        until("nothing is left", lambda: not any(self.left()), 60,
              lambda: f"{self.left()}\n{self.ekiden.tail()}")

    def test_a_base_is_made_again_after_the_agent_was_killed(self):
        self.begun("killed-base", "static")
        pid = self.ekiden.pid("agent")
        host.kill(pid)
        until("another agent", lambda: self.ekiden.pid("agent") not in (None, pid), 30, self.ekiden.tail)
        self.ekiden.wait_serves()
        arn = self.arn("killed-base")
        self.succeeds(arn, self.ekiden.operation(arn)["Id"])
        self.nothing_is_left()

    def test_a_base_that_nobody_wants_any_more_leaves_nothing(self):
        self.begun("cancelled-base", "php")
        self.ekiden.cli("cancel", "cancelled-base")
        arn = self.arn("cancelled-base")
        self.failed(arn, self.ekiden.operation(arn)["Id"])
        self.nothing_is_left()


class Examples(Bases):
    """Every example, by its `apprunner.yaml` and by what it is made of. Two are built at a time: most of it
    is the making of bases."""

    label = "sexam"
    ways = {"apprunner.yaml": "file", "detect": "detect"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pool = concurrent.futures.ThreadPoolExecutor(2)
        cls.addClassCleanup(cls.pool.shutdown, cancel_futures=True)
        cls.jobs = {}

    @classmethod
    def begin(cls, name):
        if name not in cls.jobs:
            cls.jobs[name] = cls.pool.submit(cls.deploy_both_ways, name)
        return cls.jobs[name]

    @classmethod
    def deploy_both_ways(cls, name):
        """What `ekiden deploy` said, by the way."""
        with tempfile.TemporaryDirectory() as directory:
            folder = pathlib.Path(directory) / name
            shutil.copytree(sources.EXAMPLES / name, folder)
            return {
                way: cls.ekiden.cli("deploy", folder, "--name", f"{name}-{short}", "--build-with", way,
                                    "--health-path", "/health", check=False,
                                    timeout=sources.BUILD_SECONDS, stdin=subprocess.DEVNULL)
                for way, short in cls.ways.items()}

    def both_ways(self, name):
        job = self.begin(name)
        after = EXAMPLES.index(name) + 1
        if after < len(EXAMPLES):
            self.begin(EXAMPLES[after])
        for way, done in job.result().items():
            with self.subTest(way=way):
                service = f"{name}-{self.ways[way]}"
                arn = self.arn(service)
                if arn:
                    self.known.add(arn)
                    self.addCleanup(self.remove, arn)
                self.assertEqual(done.returncode, 0, done.stderr[-12000:])
                self.assertIn("by         " + ("apprunner.yaml" if way != "detect" else "detected: "),
                              done.stderr)
                page = self.serves(service, name)
                if name != "node-static":
                    self.assertRegex(page, r"(?i)version\W{1,20}1\b")
                self.assertEqual(self.page(self.described(arn), "/health").strip(), "ok")

    def test_go(self):
        self.both_ways("go")

    def test_java(self):
        self.both_ways("java")

    def test_node_express(self):
        self.both_ways("node-express")

    def test_node_static(self):
        self.both_ways("node-static")

    def test_php(self):
        self.both_ways("php")

    def test_python_django(self):
        self.both_ways("python-django")

    def test_python_flask(self):
        self.both_ways("python-flask")

    def test_ruby_rails(self):
        self.both_ways("ruby-rails")

    def test_rust(self):
        self.both_ways("rust")

    def test_static(self):
        self.both_ways("static")


class Credentials(SourcesCase):
    """A connection's credential opens what is closed, and goes nowhere else."""

    label = "scred"

    def connection(self, name, secret, server):
        answer = self.ekiden.client().create_connection(ConnectionName=name, ProviderType="GITHUB")
        self.credential(name, secret, server)
        return answer["Connection"]["ConnectionArn"]

    def credential(self, name, secret, server):
        self.ekiden.cli("connection", "credential", name, "--username", "robot", "--token-file", "-",
                        "--host", server.host, input=secret)

    def test_a_closed_repository_is_opened_by_a_connection(self):
        inner = self.repository("inner", {"word.txt": "inner"})
        repository = self.repository("closed", application("closed"))
        with sources.GitServer(self.repositories, "robot:first-token") as closed, \
                sources.GitServer(self.repositories) as public:
            repository.git("submodule", "--quiet", "add", inner.url, "lib")
            repository.push({
                ".gitmodules": f'[submodule "lib"]\n\tpath = lib\n\turl = {public.url("inner")}\n'})
            url = closed.url("closed")
            over = self.fails_to_build("closed-none", url)
            self.assertIn("needs a credential", self.reason(over))
            over = self.fails_to_build("closed-wrong", url, connection=self.connection(
                "wrong", "other-token", closed))
            self.assertIn("refused the credential", self.reason(over))
            self.assertNotIn("other-token", self.reason(over))
            # One that is for another host is not sent.
            closed.logins.clear()
            over = self.fails_to_build("closed-elsewhere", url, connection=self.connection(
                "elsewhere", "first-token", public))
            self.assertIn(f"is for `{public.host}`", self.reason(over))
            self.assertEqual(set(closed.logins) | set(public.logins), set())
            arn = self.connection("right", "first-token", closed)
            service = self.of_code("closed", url, connection=arn)
            self.assertEqual(self.page(service), "closed")
            self.assertEqual(self.page(service, "/lib/word.txt"), "inner")
            told = service["SourceConfiguration"]["AuthenticationConfiguration"]
            self.assertEqual(told, {"ConnectionArn": arn})
            # It was for one host, and is in nobody's words.
            self.assertEqual(set(public.logins), {None})
            log = self.build_log(service["ServiceArn"])
            said = "\n".join(log) + self.ekiden.tail(1000) + str(self.described(service["ServiceArn"]))
            self.assertNotIn("first-token", said)
            self.assertTrue(any("goes over the network unencrypted" in line for line in log), log)
            # Another one counts from the next deployment on.
            closed.login = "robot:second-token"
            repository.push({"app.py": server("second")})
            operation = self.ekiden.client().start_deployment(
                ServiceArn=service["ServiceArn"])["OperationId"]
            over = self.failed(service["ServiceArn"], operation)
            self.assertIn("refused the credential", self.reason(over))
            self.credential("right", "second-token", closed)
            self.deploy(service["ServiceArn"])
            self.assertEqual(self.page(service), "second")
        # Neither in a file of control's in the clear.
        kept = subprocess.run(["grep", "-rl", "second-token", self.ekiden.data, self.ekiden.run],
                              capture_output=True, text=True)
        self.assertEqual(kept.stdout, "")


class BadSources(SourcesCase):
    """What cannot be built is refused at once or fails with words that help, and does no harm."""

    label = "sbad"
    sources = 'poll = "0s"\nsize = "2MiB"\n'

    def setUp(self):
        self.mark = self.directory / f"pwned-{self._testMethodName[-20:]}"
        self.addCleanup(lambda: self.assertFalse(self.mark.exists(), "a command was run"))

    def refused(self, repository, **more):
        """CreateService must be refused; the message."""
        with self.assertRaises(ClientError) as raised:
            self.begin("refused", repository, **more)
        error = raised.exception.response["Error"]
        self.assertEqual(error["Code"], "InvalidRequestException", error)
        return error["Message"]

    def test_what_could_be_an_option_or_a_command_is_refused(self):
        good = self.repository("good", application("1"))
        touch = f"touch {self.mark}"
        for url in (f"ext::sh -c {touch.replace(' ', '%20')}", f"--upload-pack={touch}", "-c", "--",
                    f"ssh://-oProxyCommand={touch.replace(' ', '$IFS')}/x", f"-oProxyCommand={self.mark}:x",
                    "git://127.0.0.1/x", "ftp://127.0.0.1/x", "fd::17", f"file://{good.url}/../../../../etc",
                    "/etc", "/", f"{self.repositories}/../../../etc", "relative/path", "https://",
                    f"http://127.0.0.1:1/$({touch})", f"http://127.0.0.1:1/`{touch}`", "http://a b/c",
                    f"https://127.0.0.1:1/x\n--upload-pack={touch}", "https://user:secret-word@127.0.0.1:x/",
                    f"ssh://127.0.0.1/;{touch}", "git@127.0.0.1:-x", str(self.directory / "none.git"),
                    f"{self.repositories}/none.git"):
            with self.subTest(url=url):
                self.assertNotIn("secret-word", self.refused(url))
        for branch in ("-x", f"--upload-pack={touch}", f"main;{touch}", "main..x", "a b", "@{-1}", "a^",
                       "a:b", "refs/heads/../x", "main.lock", "a\nb", "*", "/main", "x" * 256):
            with self.subTest(branch=branch):
                self.refused(good, branch=branch)
        for directory in ("../x", "a/../../x", "a\nb", "a\0b"):
            with self.subTest(directory=directory):
                self.refused(good, directory=directory)
        # What is no option where it stands is a directory that is not there.
        for directory in (f"--upload-pack={touch}", ":(top)x", "HEAD:x", "-x", f"$({touch})"):
            with self.subTest(directory=directory):
                over = self.fails_to_build("directory", good, directory=directory)
                self.assertIn("no directory", self.reason(over))
                self.remove(self.arn("directory"))

    def test_a_link_leads_only_to_what_may_be_named(self):
        outside = sources.Repository(self.directory, "outside", application("1"))
        (self.repositories / "link.git").symlink_to(outside.bare)
        self.refused(f"{self.repositories}/link.git")

    def test_a_submodule_is_no_way_in(self):
        other = self.repository("other", {"a": "a"})
        commit = other.git("rev-parse", "HEAD")
        touch = f"touch%20{self.mark}"
        outside = sources.Repository(self.directory, "out", {"a": "a"})
        for number, url in enumerate((
                f"ext::sh -c {touch}", f"--upload-pack=touch {self.mark}", f"-u./{self.mark}",
                "../../../../../../etc", outside.url, f"file://{outside.url}", "ssh://-oProxyCommand=x/y")):
            with self.subTest(url=url):
                repository = self.repository(f"module-{number}", application("1"))
                repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
                sources.write(repository.work, {
                    ".gitmodules": f'[submodule "lib"]\n\tpath = lib\n\turl = "{url}"\n'
                                   f'\tupdate = "!touch {self.mark}"\n'})
                repository.git("add", ".gitmodules", "app.py")
                repository.git("commit", "--quiet", "--message", "module")
                repository.git("push", "--quiet", "origin", "HEAD:main")
                over = self.fails_to_build(f"module-{number}", repository)
                self.assertIn("failed to fetch the submodule `lib`", self.reason(over))
        # One that is declared nowhere, and paths that lead out.
        repository = self.repository("module-none", application("1"))
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
        repository.git("commit", "--quiet", "--message", "module")
        repository.git("push", "--quiet", "origin", "HEAD:main")
        over = self.fails_to_build("module-none", repository)
        self.assertIn("`.gitmodules` does not say where it is", self.reason(over))

    def test_hooks_filters_and_settings_of_a_repository_do_nothing(self):
        files = application("1") | {".gitattributes": "* filter=x diff=x merge=x\n"}
        repository = self.repository("filters", files)
        with open(repository.bare / "config", "a") as config:
            config.write(f'[core]\n\tfsmonitor = "touch {self.mark}"\n\tsshCommand = "touch {self.mark}"\n'
                         f'[filter "x"]\n\tsmudge = "touch {self.mark}"\n\tclean = "touch {self.mark}"\n'
                         f'[uploadpack]\n\tpackObjectsHook = "touch {self.mark}"\n')
        for hook in ("post-checkout", "pre-auto-gc", "reference-transaction", "post-update", "post-merge"):
            path = repository.bare / "hooks" / hook
            path.write_text(f"#!/bin/sh\ntouch {self.mark}\n")
            path.chmod(0o755)
        service = self.of_code("filters", repository)
        self.assertEqual(self.page(service), "1")

    def test_a_remote_that_is_not_there_or_closed_says_so(self):
        for status, wanted in ((404, "was not found"), (401, "needs a credential"),
                               (403, "needs a credential"), (500, "cannot be reached")):
            with self.subTest(status=status), answering(status) as (port, seen):
                over = self.fails_to_build(f"remote-{status}", f"http://127.0.0.1:{port}/e2e/secret.git")
                self.assertIn(wanted, self.reason(over))
                self.assertTrue(seen)
        over = self.fails_to_build("remote-none", f"http://127.0.0.1:{host.free_port()}/e2e/none.git")
        self.assertIn("cannot be reached", self.reason(over))
        over = self.fails_to_build("remote-name", "https://none.invalid/e2e/none.git")
        self.assertIn("none.invalid", self.reason(over))
        # A directory that is no repository, and an empty one.
        (self.repositories / "plain").mkdir()
        self.assertIn("was not found", self.reason(
            self.fails_to_build("remote-plain", str(self.repositories / "plain"))))
        empty = self.repository("empty")
        self.assertIn("has no branch, tag or commit `main`", self.reason(self.fails_to_build("empty", empty)))

    def test_a_repository_is_not_larger_than_it_may_be(self):
        many = self.repository("large", application("1") | {"large.bin": os.urandom(8 << 20)})
        self.assertIn("larger than 2 MiB", self.reason(self.fails_to_build("large", many)))
        # Small on its way, and large when it is there.
        bomb = self.repository("bomb", application("1") | {"bomb.bin": bytes(64 << 20)})
        self.assertIn("2 MiB", self.reason(self.fails_to_build("bomb", bomb)))
        # Each small, and large together.
        sum_of = self.repository("sum", application("1") | {
            f"zeros-{number}": bytes((1 << 20) + number) for number in range(8)})
        self.assertIn("2 MiB", self.reason(self.fails_to_build("sum-of", sum_of)))
        self.assertEqual(self.drafts(), [])

    def drafts(self):
        """What is begun and not done among the source trees."""
        return [path.name for path in (self.ekiden.data / "control/sources/trees").iterdir()
                if path.suffix == ".draft"]

    def test_a_link_does_not_lead_out_of_a_tree(self):
        for number, target in enumerate(("/etc/passwd", "../../../etc/passwd", "..", "a/../../x")):
            with self.subTest(target=target):
                repository = self.repository(f"link-{number}", application("1") | {
                    "link.txt": pathlib.Path(target)})
                over = self.fails_to_build(f"link-{number}", repository)
                self.assertIn("`link.txt` cannot be part of a source tree", self.reason(over))
        repository = self.repository("link-inside", application("1") | {
            "deep/link.txt": pathlib.Path("../real.txt"), "real.txt": "real"})
        service = self.of_code("link-inside", repository)
        self.assertEqual(self.page(service, "/deep/link.txt"), "real")

    def test_a_dockerfile_that_cannot_be_built_says_where(self):
        base = Hostile.base
        image = oci.Image([oci.busybox_layer()])
        with tempfile.TemporaryDirectory() as directory:
            archive = image.archive(pathlib.Path(directory) / "image.tar")
            self.ekiden.cli("image", "import", archive, base)
        for number, (text, *wanted) in enumerate((
                ("FROM localhost/none/none:1\n", "localhost/none/none:1"),
                (f"FROM 127.0.0.1:{host.free_port()}/none:1\n", "/none:1"),
                (f"FROM {base}\nCOPY none.txt /\n", "none.txt", "COPY"),
                (f"FROM {base}\nCOPY ../../../etc/passwd /p\nRUN cat /p; exit 4\n", "passwd"),
                (f"FROM {base}\nRUN echo what-it-said; exit 7\n", "what-it-said", "7"),
                (f"FROM {base}\nRUNS true\n", "RUNS"),
                ("RUN true\n", "FROM"),
                ("", "Dockerfile"),
                (f"FROM {base}\nRUN --mount=type=bind,from=none,target=/x true\n", "none"),
                (f"FROM {base} AS one\nCOPY --from=two /a /b\n", "two"))):
            with self.subTest(text=text):
                over = self.fails_to_build(f"docker-{number}", self.repository(
                    f"docker-{number}", {"Dockerfile": text, "x": "x"}))
                reason = over["Failure"]["Reason"]
                for words in wanted:
                    self.assertIn(words, reason)
                self.assertNotIn("root:x:0", self.reason(over).replace("\n", ""))

    def test_mistakes_of_apprunner_yaml_are_told_with_their_places(self):
        good = ["version: 1.0", "runtime: python311", "build:", "  commands:", "    build:",
                "      - true", "run:", "  command: python3 app.py"]
        # Lines instead of others, and what must be said of them.
        cases = (
            ({5: "      - echo: x"}, r"line 6, column 9: a command of `build.commands.build` is a map"),
            ({7: "  command: x\n  network:\n    port: http"}, r"line 10, column 11: .*port.*`http`"),
            ({0: "version: 2.0"}, r"line 1, column 10: .*version"),
            ({1: "runtime: cobol"}, r"line 2, column 10: .*cobol"),
            ({1: "runtime: python311\nruntime: python3"}, r"line 3, column 1: .*runtime"),
            ({4: "\tbuild:"}, r"line 5, column 1: .*"),
            ({6: "walk:"}, r"`run`.* "),
            ({7: "  command: x\n  runtime-version: 3.8"}, r"line 9, column 20: .*3\.8"),
            ({7: "  command: x\n  env:\n    - name: PORT\n      value: 1"}, r"line 10, column 13: .*PORT"),
            ({7: "  command: x\n  env:\n    - name: AWSAPPRUNNER_X\n      value: 1"}, r"line 10, column 13"),
            ({7: "  command: 'x"}, r"line \d+, column \d+: "),
            ({7: "  command: x\n  secrets:\n    - name: A\n      value-from: 'a b'"}, r"line 11, column 19"),
        )
        for number, (changes, wanted) in enumerate(cases):
            with self.subTest(changes=changes):
                text = "\n".join(changes.get(n, line) for n, line in enumerate(good)) + "\n"
                over = self.fails_to_build(f"mistake-{number}", self.repository(
                    f"mistake-{number}", {"app.py": server("1"), "apprunner.yaml": text}))
                reason = over["Failure"]["Reason"]
                self.assertRegex(reason, wanted)
        # All of them at once.
        text = "\n".join(good[:5] + ["      - echo: x"] + good[6:] + ["  network:", "    port: http"]) + "\n"
        over = self.fails_to_build("mistakes", self.repository(
            "mistakes", {"app.py": server("1"), "apprunner.yaml": text}))
        for place in ("line 6, column 9", "line 10, column 11"):
            self.assertIn(place, over["Failure"]["Reason"])
        over = self.fails_to_build("mistaken", self.repository("mistaken", {
            "app.py": server("1"), "apprunner.yaml": "\n".join(good),
            "ekiden.yaml": "service:\n  port: 80800\nbuild:\n  with: magic\n"}))
        for place in ("line 2", "line 4"):
            self.assertIn(place, over["Failure"]["Reason"])
        over = self.fails_to_build("nothing", self.repository("nothing", {"read.me": "nothing to run"}))
        self.assertIn("none of Gemfile", over["Failure"]["Reason"])


class Uploads(SourcesCase):
    """Archives that are sent by hand: those that are wrong are refused, and nothing of them is kept."""

    label = "supl"
    sources = 'poll = "0s"\nsize = "2MiB"\n'

    def setUp(self):
        self.path = f"/ekiden/uploads/{settings.REGION}/by-hand"
        self.kept = self.trees()
        self.addCleanup(lambda: self.assertEqual(self.trees(), self.kept))

    def trees(self):
        """Everything that is kept of uploads."""
        root = self.ekiden.data / "control/sources"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def send(self, body, path=None, key=None):
        """Sends an archive, or a manifest to its place; the status and what is said."""
        key = key or self.ekiden.key()
        login = f"{key['access_key_id']}:{key['secret_access_key']}"
        headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
        return self.post(path or self.path, body, headers)

    def refused(self, body, *wanted, path=None, status=400):
        answered, said = self.send(body, path)
        self.assertEqual(answered, status, said)
        for text in wanted:
            self.assertIn(text, said)

    def test_a_good_one_is_deployed(self):
        files = application("by hand")
        archive = Archive(files)
        status, said = self.send(archive.manifest(), f"{self.path}/manifest")
        self.assertEqual((status, len(json.loads(said)["Missing"])), (200, 2))
        status, said = self.send(archive.whole())
        self.assertEqual(status, 200, said)
        answer = json.loads(said)
        self.assertEqual(answer["Files"], 2)
        status, said = self.send(archive.manifest(), f"{self.path}/manifest")
        self.assertEqual((status, json.loads(said)["Missing"]), (200, []))
        # The manifest alone is the same tree, and so the same version.
        status, said = self.send(archive.packed([]))
        self.assertEqual((status, json.loads(said)["Version"]), (200, answer["Version"]))
        service = self.of_code("by-hand", "upload://by-hand", branch=answer["Version"])
        self.assertEqual(self.page(service), "by hand")
        self.kept = self.trees()
        # A version that nobody has, none at all, and one of another service.
        for name, version in (("by-hand", "sha256:" + "0" * 64), ("by-hand", "main"),
                              ("other", answer["Version"])):
            with self.assertRaises(ClientError) as raised:
                self.begin("other", f"upload://{name}", branch=version)
            self.assertIn("upload", str(raised.exception))

    def test_nobody_gets_in_without_a_key_that_may_deploy(self):
        good = Archive(application("1")).whole()
        key = self.ekiden.key()
        for path in (self.path, f"{self.path}/manifest"):
            self.assertEqual(self.post(path, good)[0], 401)
            pairs = (key["access_key_id"], "wrong"), ("wrong", key["secret_access_key"]), ("", "")
            for id, secret in pairs:
                wrong = {"access_key_id": id, "secret_access_key": secret}
                self.assertEqual(self.send(good, path, wrong)[0], 401)
            for header in ("Basic", "Basic !!", "Bearer x", "Basic " + base64.b64encode(b"none").decode()):
                self.assertEqual(self.post(path, good, {"Authorization": header})[0], 401, header)
            made = self.ekiden.native("CreateAccessKey", Role="viewer")
            viewer = {"access_key_id": made["AccessKey"]["AccessKeyId"],
                      "secret_access_key": made["SecretAccessKey"]}
            status, said = self.send(good, path, viewer)
            self.assertEqual(status, 403, said)
        self.assertIn("UploadSource", self.ekiden.cli("audit"))

    def test_what_is_not_a_place_is_refused(self):
        good = Archive(application("1")).whole()
        for place, wanted in (("us-east-1/x", 400), ("us-east-1/", 400), ("us-east-1", 400), ("", 400),
                              ("us-east-1/..%2f..%2fx", 400), ("us-east-1/by-hand/other", 404),
                              ("us_east_1/by-hand", 400), ("../by-hand", 400), (f"{'a' * 33}/by-hand", 400)):
            self.assertEqual(self.send(good, f"/ekiden/uploads/{place}")[0], wanted, place)

    def test_one_that_is_cut_off_is_refused(self):
        whole = Archive(application("1") | {"random": os.urandom(100_000)}).whole()
        for length in (0, 1, 3, 4, 5, 100, len(whole) // 2, len(whole) - 50):
            with self.subTest(length=length):
                self.refused(whole[:length])
        # A client that promises more than it sends.
        login = base64.b64encode(":".join(self.ekiden.key()[name] for name in (
            "access_key_id", "secret_access_key")).encode()).decode()
        with socket.create_connection(("127.0.0.1", self.ekiden.api_port)) as connection:
            connection.sendall(f"POST {self.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n"
                               f"Content-Length: {len(whole)}\r\n\r\n".encode() + whole[:1000])

    def test_one_that_lies_is_refused(self):
        files = {"a.txt": b"a" * 1000, "b.txt": b"b" * 2000}
        good = Archive(files)
        digests = sorted(good.contents)
        first, second = digests
        lie = [(first, good.contents[second])]
        for what, body in (
                ("another content", good.packed(lie + [(second, good.contents[second])])),
                ("twice the same", good.packed([(first, good.contents[first])] * 2)),
                ("what nobody wants", good.packed([(hashlib.sha256(b"x").hexdigest(), b"x")])),
                ("an odd name", good.packed([("../../etc/passwd", b"x")])),
                ("no manifest", zstd(tar([(first, good.contents[first])]))),
                ("the manifest later", zstd(tar([(first, good.contents[first]),
                                                 ("manifest.json", good.manifest())]))),
                ("nothing", zstd(b"")), ("no tar", zstd(b"hello")), ("no zstd", b"hello" * 1000),
                ("plain tar", tar([("manifest.json", good.manifest())])),
                ("another format", good.packed([], format=2)),
                ("no JSON", zstd(tar([("manifest.json", b"{")]))),
                ("a large window", zstd(tar([("manifest.json", good.manifest())]) + bytes(40 << 20),
                                        "--ultra", "-22", "--long=27")),
                ("sizes that differ", Archive(files, sizes={"a.txt": 999}).whole()),
                ("negative", Archive(files, sizes={"a.txt": -1}).whole()),
                ("huge", Archive(files, sizes={"a.txt": 1 << 62}).whole()),
                ("sum too large", Archive(files, sizes={"a.txt": (1 << 64) - 1}).whole()),
                ("a device", zstd(tar([("manifest.json", good.manifest())], kind=tarfile.CHRTYPE))),
                ("deep JSON", zstd(tar([("manifest.json", b"[" * 100_000)])))):
            with self.subTest(what=what):
                self.refused(body)
        # It may have been there when it was asked for: worth another try.
        self.refused(good.packed([(first, good.contents[first])]), "was not sent", status=409)
        manifest = f"{self.path}/manifest"
        for body in (b"", b"{", b"[" * 100_000, b'{"format":1,"items":[{}]}', b'{"format":1}', b"\xff"):
            with self.subTest(manifest=body[:30]):
                self.refused(body, path=manifest)

    def test_one_that_grows_is_refused(self):
        # A million times larger than what is sent.
        bomb = Archive({"bomb": bytes(1)}, sizes={"bomb": 1 << 20})
        digest = next(iter(bomb.contents))
        self.refused(bomb.packed([(digest, bytes(64 << 20))]))
        self.refused(Archive({"bomb": bytes(64 << 20)}).whole(), "MiB")
        status, said = self.send(os.urandom(3 << 20))
        self.assertEqual(status, 413, said)
        self.assertIn(".gitignore", said)
        many = Archive({f"{number}": pathlib.PurePath("x") for number in range(200_001)})
        self.refused(many.manifest(), path=f"{self.path}/manifest")
        self.refused(many.whole())

    def test_one_that_climbs_is_refused(self):
        for path in ("../x", "/etc/x", "a/../../x", "a/..", "..", ".", "", "a//b", "a/", "./a", "a\0b",
                     "a\nb", ".git/config", "a/.git/config", ".GIT/config", ".git", "x" * 2000, "a\\..\\b"):
            with self.subTest(path=path):
                status, said = self.send(Archive({path: b"x"}).whole())
                if path in ("a\nb", "a\\..\\b", ".GIT/config"):
                    # Names like others, here.
                    self.assertIn(status, (200, 400), said)
                    self.kept = self.trees() if status == 200 else self.kept
                else:
                    self.assertEqual(status, 400, said)
        for target in ("/etc/passwd", "../x", "a/../../x", "", "x\0y"):
            with self.subTest(target=target):
                self.refused(Archive({"link": pathlib.PurePath(target) if target else None}).whole())
        for files in ({"a": b"1", "a/b": b"2"}, {"l": pathlib.PurePath("d"), "l/x": b"1", "d/y": b"1"},
                      {"d/l": pathlib.PurePath(".."), "d/l/x": b"1"}):
            with self.subTest(files=files):
                self.refused(Archive(files).whole())
        twice = Archive({"a": b"1"})
        twice.items *= 2
        self.refused(twice.whole())

    def test_many_at_once_are_told_to_wait(self):
        before = host.descriptors(self.ekiden.pid("control"))
        login = base64.b64encode(":".join(self.ekiden.key()[name] for name in (
            "access_key_id", "secret_access_key")).encode()).decode()
        head = (f"POST {self.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n"
                "Content-Length: 1000\r\n\r\n").encode()
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                connection = stack.enter_context(
                    socket.create_connection(("127.0.0.1", self.ekiden.api_port)))
                connection.sendall(head + b"x")
            until("told to wait", lambda: self.send(b"x")[0] == 503, 20)
        until("taken again", lambda: self.send(b"x")[0] == 400, 20)
        after = host.descriptors(self.ekiden.pid("control"))
        self.assertLess(after.get("file", 0) - before.get("file", 0), 6)


class Archive:
    """An upload, made by hand so that it can be wrong."""

    def __init__(self, files, sizes=None):
        self.items, self.contents = [], {}
        for path, content in files.items():
            item = {"path": path, "modified": 1_700_000_000}
            if content is None or isinstance(content, pathlib.PurePath):
                item |= {"kind": "link", "target": str(content or "")}
            else:
                data = content if isinstance(content, bytes) else content.encode()
                digest = hashlib.sha256(data).hexdigest()
                self.contents[digest] = data
                item |= {"kind": "file", "executable": False, "digest": f"sha256:{digest}",
                         "bytes": (sizes or {}).get(path, len(data))}
            self.items.append(item)

    def manifest(self, format=1):
        return json.dumps({"format": format, "items": self.items}).encode()

    def packed(self, contents, format=1):
        return zstd(tar([("manifest.json", self.manifest(format)), *contents]))

    def whole(self):
        return self.packed(sorted(self.contents.items()))


def tar(entries, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            archive.addfile(info, io.BytesIO(data))
    # Python pads to 20 blocks; two of zeros are the end.
    whole = buffer.getvalue()
    return whole[:len(whole.rstrip(b"\0")) + 511 & ~511] + bytes(1024) if entries else whole


def zstd(data, *flags):
    return subprocess.run(["zstd", "--quiet", "--stdout", *flags], input=data, check=True,
                          capture_output=True).stdout


@contextlib.contextmanager
def answering(status):
    """A server that answers everything with a status: its port, and what it was asked."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="e2e"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield listener.server_address[1], seen
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
