"""The built-in registry: by the tools that people have, beside Debian's, by ECR's operations, and what a
push leads to.
"""

import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

from botocore.exceptions import ClientError

from support import host, images, oci, settings, terraform
from support.case import EkidenCase
from support.registry import Registry
from support.repeat import Repeat
from support.server import service_request
from support.wait import until

ACCOUNT = "100000000001"
ECR = f"{ACCOUNT}.dkr.ecr.{settings.REGION}.amazonaws.com"
BURST = 20
MISSING = "sha256:" + "0" * 64


class RegistryCase(EkidenCase):

    @property
    def address(self):
        return f"127.0.0.1:{self.ekiden.api_port}"

    def credentials(self):
        key = self.ekiden.key()
        return f"{key['access_key_id']}:{key['secret_access_key']}"

    def skopeo(self, *arguments, check=True):
        argv = ["skopeo", "--insecure-policy", *map(str, arguments)]
        if check:
            return host.run(*argv, timeout=300)
        return subprocess.run(argv, capture_output=True, text=True, timeout=300)

    def push(self, archive, name):
        """Pushes an OCI archive; the reference to deploy."""
        self.skopeo("copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", self.credentials(),
                    f"oci-archive:{archive}", f"docker://{self.address}/{name}")
        return f"{self.address}/{name}"

    def ecr(self):
        return self.ekiden.client("ecr")

    def fails(self, code, call, **arguments):
        with self.assertRaises(ClientError) as raised:
            call(**arguments)
        self.assertEqual(raised.exception.response["Error"]["Code"], code, raised.exception)
        return raised.exception.response["Error"]["Message"]

    def image(self, text, directory):
        """A small image whose page says something, as an archive."""
        page = oci.entry("www/index.html", data=text.encode() + b"\n", mode=0o644)
        image = oci.Image([oci.busybox_layer(), oci.layer(page)])
        return image.archive(pathlib.Path(directory) / f"{hashlib.sha256(text.encode()).hexdigest()}.tar")


class Tools(RegistryCase):
    label = "reg"

    def test_images_come_and_go_by_skopeo_with_the_password_of_aws(self):
        environment = host.environment() | json.loads(self.ekiden.cli("env", "--output", "json"))
        password = host.run("aws", "ecr", "get-login-password", env=environment).strip()
        with tempfile.TemporaryDirectory() as directory:
            auth = pathlib.Path(directory) / "auth.json"
            subprocess.run(
                ["skopeo", "login", "--authfile", auth, "--tls-verify=false", "--username", "AWS",
                 "--password-stdin", self.address],
                input=password, text=True, check=True, capture_output=True)
            name = f"docker://{self.address}/tools/web:1"
            self.skopeo("copy", "--quiet", "--dest-tls-verify=false", "--authfile", auth,
                        f"oci-archive:{images.web_archive(1)}", name)
            seen = json.loads(self.skopeo("inspect", "--tls-verify=false", "--authfile", auth, name))
            self.assertEqual(seen["RepoTags"], ["1"])
            out = pathlib.Path(directory) / "out"
            self.skopeo("copy", "--quiet", "--src-tls-verify=false", "--authfile", auth, name,
                        f"dir:{out}")
            manifest = (out / "manifest.json").read_bytes()
            self.assertEqual("sha256:" + hashlib.sha256(manifest).hexdigest(), seen["Digest"])
            self.skopeo("copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false",
                        "--authfile", auth, name, f"docker://{self.address}/tools/copy:1")
            self.skopeo("delete", "--tls-verify=false", "--authfile", auth, name)
            gone = self.skopeo("inspect", "--tls-verify=false", "--authfile", auth, name, check=False)
            self.assertIn("manifest unknown", gone.stderr.lower() + gone.stdout.lower())
        names = [one["repositoryName"] for one in self.ecr().describe_repositories()["repositories"]]
        self.assertLessEqual({"tools/web", "tools/copy"}, set(names))

    def test_buildah_pushes_what_it_made_and_pulls_it_again(self):
        with tempfile.TemporaryDirectory() as directory:
            buildah = ("buildah", "--root", f"{directory}/store", "--runroot", f"{directory}/run",
                       "--storage-driver", "vfs")
            container = host.run(*buildah, "from", "scratch").strip()
            page = pathlib.Path(directory) / "page"
            page.write_text("hello")
            host.run(*buildah, "copy", "--quiet", container, page, "/page")
            host.run(*buildah, "commit", "--quiet", container, "made:1")
            name = f"{self.address}/tools/made:1"
            host.run(*buildah, "push", "--quiet", "--tls-verify=false", "--creds",
                     self.credentials(), "made:1", f"docker://{name}")
            host.run(*buildah, "rmi", "--all", "--force")
            host.run(*buildah, "pull", "--quiet", "--tls-verify=false", "--creds",
                     self.credentials(), name)

    def test_nobody_gets_in_without_the_right_key_and_a_viewer_only_looks(self):
        for credentials in (None, "AWS:nonsense", "ekiden-engine:nonsense", "x:y"):
            answer = Client(self.address, credentials).ask("GET", "/v2/")
            self.assertEqual((answer.status, answer.codes()), (401, ["UNAUTHORIZED"]))
            self.assertIn("Basic", answer.fields["www-authenticate"])
        # What every signed request of a session carries opens nothing.
        session = self.ekiden.client("sts").get_session_token()["Credentials"]
        for secret in ("", ".x", f".{session['AccessKeyId']}"):
            seen = f"AWS:{session['AccessKeyId']}{secret}.{session['SessionToken']}"
            self.assertEqual(Client(self.address, seen).ask("GET", "/v2/").status, 401)
        made = self.ekiden.native("CreateAccessKey", Role="viewer")
        client = Client(
            self.address, f"{made['AccessKey']['AccessKeyId']}:{made['SecretAccessKey']}")
        self.assertEqual(client.ask("GET", "/v2/_catalog").status, 200)
        refused = client.ask("POST", "/v2/other/blobs/uploads/")
        self.assertEqual((refused.status, refused.codes()), (403, ["DENIED"]))


class Differential(RegistryCase):
    """The same requests to Ekiden and to Debian's registry are answered the same way."""

    label = "regdi"

    def test_both_answer_alike(self):
        theirs = Registry()
        self.addCleanup(theirs.close)
        ours = Client(self.address, self.credentials())
        other = Client(theirs.address, None)
        different = []
        for name, request in requests():
            answers = [request(client) for client in (ours, other)]
            facts = [[answer.facts() for answer in answer_list] for answer_list in answers]
            if facts[0] != facts[1]:
                different.append(f"{name}:\n  ours   {facts[0]}\n  theirs {facts[1]}")
        self.assertEqual(different, [], "\n".join(different))


class Uploads(RegistryCase):
    """What is wrong about an upload is said, and nothing of it is kept."""

    label = "regup"
    extra = '[host]\n[registry]\nbudget = "1GiB"\n'

    def setUp(self):
        self.client = Client(self.address, self.credentials())

    def begin(self, name="up/one"):
        answer = self.client.ask("POST", f"/v2/{name}/blobs/uploads/")
        self.assertEqual(answer.status, 202)
        return answer.fields["location"]

    def test_an_upload_goes_on_where_it_stopped_also_in_another_life_of_control(self):
        data = os.urandom(3 << 20)
        place = self.begin()
        self.assertEqual(self.client.ask("PATCH", place, data[:1 << 20]).status, 202)
        # A client that promises more than it sends.
        with self.client.connection() as connection:
            connection.putrequest("PATCH", place)
            for field, value in self.client.fields().items():
                connection.putheader(field, value)
            connection.putheader("Content-Length", str(2 << 20))
            connection.endheaders(data[1 << 20:(1 << 20) + 1000])
        host.kill(self.ekiden.pid("control"))
        self.ekiden.wait_serves()
        answer = self.client.ask("GET", place)
        self.assertEqual(answer.status, 204)
        at = int(answer.fields["range"].removeprefix("0-")) + 1
        self.assertIn(at, ((1 << 20), (1 << 20) + 1000))
        wrong = self.client.ask("PATCH", place, b"x", {"Content-Range": "5-5"})
        self.assertEqual((wrong.status, wrong.codes()), (416, ["BLOB_UPLOAD_INVALID"]))
        digest = oci.digest(data)
        done = self.client.ask("PUT", f"{place}?digest={digest}", data[at:])
        self.assertEqual(done.status, 201, done.body)
        got = self.client.ask("GET", f"/v2/up/one/blobs/{digest}")
        self.assertEqual(got.body, data)

    def test_what_is_not_what_was_said_is_refused_and_forgotten(self):
        place = self.begin()
        refused = self.client.ask("PUT", f"{place}?digest={MISSING}", b"hello")
        self.assertEqual((refused.status, refused.codes()), (400, ["DIGEST_INVALID"]))
        self.assertEqual(self.client.ask("GET", place).status, 404)
        self.assertEqual(self.client.ask("HEAD", f"/v2/up/one/blobs/{MISSING}").status, 404)
        given_up = self.begin()
        self.assertEqual(self.client.ask("DELETE", given_up).status, 204)
        self.assertEqual(self.client.ask("PATCH", given_up, b"x").status, 404)

    def test_what_debians_registry_does_not_do(self):
        bad = self.client.ask("GET", "/v2/D/tags/list")
        self.assertEqual((bad.status, bad.codes()), (400, ["NAME_INVALID"]))
        wrong = self.client.ask("POST", "/v2/up/pages/tags/list")
        self.assertEqual((wrong.status, wrong.codes()), (405, ["UNSUPPORTED"]))
        blobs = [b"layer", b"{}"]
        for blob in blobs:
            place = self.begin("up/pages")
            self.client.ask("PUT", f"{place}?digest={oci.digest(blob)}", blob)
        layer, config = blobs
        manifest = manifest_of(config, layer)
        kind = {"Content-Type": oci.MANIFEST}
        for tag in ("c", "a", "b"):
            self.assertEqual(
                self.client.ask("PUT", f"/v2/up/pages/manifests/{tag}", manifest, kind).status, 201)
        page = self.client.ask("GET", "/v2/up/pages/tags/list?n=2")
        self.assertEqual(json.loads(page.body)["tags"], ["a", "b"])
        following = page.fields["link"].partition("<")[2].partition(">")[0]
        self.assertEqual(json.loads(self.client.ask("GET", following).body)["tags"], ["c"])
        # Something about the image: a signature, say.
        about = json.loads(manifest_of(config, layer, note="about"))
        about |= {"artifactType": "application/x.note", "subject": {
            "mediaType": oci.MANIFEST, "digest": oci.digest(manifest), "size": len(manifest)}}
        put = self.client.ask("PUT", "/v2/up/pages/manifests/about", oci.as_json(about), kind)
        self.assertEqual(put.fields["oci-subject"], oci.digest(manifest))
        path = f"/v2/up/pages/referrers/{oci.digest(manifest)}"
        found = json.loads(self.client.ask("GET", path).body)["manifests"]
        self.assertEqual([one["artifactType"] for one in found], ["application/x.note"])
        none = self.client.ask("GET", f"{path}?artifactType=other")
        self.assertEqual(json.loads(none.body)["manifests"], [])
        self.assertEqual(none.fields["oci-filters-applied"], "artifactType")
        kept = self.client.ask("DELETE", "/v2/up/pages/manifests/a")
        self.assertEqual(kept.status, 202)
        self.assertEqual(self.client.ask("HEAD", "/v2/up/pages/manifests/b").status, 200)

    def test_a_push_beyond_the_budget_is_refused_in_words(self):
        place = self.begin()
        piece, sent = bytes(64 << 20), 0
        while sent <= 1 << 30:
            answer = self.client.ask("PATCH", place, piece)
            if answer.status != 202:
                break
            sent += len(piece)
        self.assertEqual(answer.status, 507, answer.body)
        self.assertIn("registry.budget", answer.message())
        self.client.ask("DELETE", place)

    def test_two_requests_at_one_upload_do_not_mix(self):
        place = self.begin()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            piece = bytes(32 << 20)
            answers = list(pool.map(lambda _: self.client.ask("PATCH", place, piece), range(2)))
        statuses = sorted(answer.status for answer in answers)
        self.assertIn(statuses, ([202, 202], [202, 409]))
        at = self.client.ask("GET", place).fields["range"]
        self.assertEqual(at, f"0-{statuses.count(202) * len(piece) - 1}")
        self.client.ask("DELETE", place)


class Ecr(RegistryCase):
    """ECR's operations, by boto3."""

    label = "ecr"

    def test_a_repository_is_made_set_labelled_and_deleted(self):
        ecr = self.ecr()
        made = ecr.create_repository(
            repositoryName="team/app", imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration={"encryptionType": "KMS", "kmsKey": "alias/x"},
            tags=[{"Key": "a", "Value": "1"}])["repository"]
        self.assertEqual(made["repositoryUri"], f"{ECR}/team/app")
        self.assertEqual(made["imageTagMutability"], "IMMUTABLE")
        self.assertEqual(made["encryptionConfiguration"], {"encryptionType": "KMS", "kmsKey": "alias/x"})
        self.fails("RepositoryAlreadyExistsException", ecr.create_repository, repositoryName="team/app")
        self.fails("InvalidParameterException", ecr.create_repository, repositoryName="Team")
        found = ecr.describe_repositories(repositoryNames=["team/app"])["repositories"]
        self.assertEqual(found, [made])
        arn = made["repositoryArn"]
        ecr.tag_resource(resourceArn=arn, tags=[{"Key": "b", "Value": "2"}])
        ecr.untag_resource(resourceArn=arn, tagKeys=["a"])
        self.assertEqual(ecr.list_tags_for_resource(resourceArn=arn)["tags"], [{"Key": "b", "Value": "2"}])
        changed = ecr.put_image_tag_mutability(repositoryName="team/app", imageTagMutability="MUTABLE")
        self.assertEqual(changed["imageTagMutability"], "MUTABLE")
        ecr.put_image_scanning_configuration(
            repositoryName="team/app", imageScanningConfiguration={"scanOnPush": False})
        self.fails("RepositoryPolicyNotFoundException", ecr.get_repository_policy,
                   repositoryName="team/app")
        policy = json.dumps({"Version": "2012-10-17", "Statement": []})
        ecr.set_repository_policy(repositoryName="team/app", policyText=policy)
        self.assertEqual(ecr.get_repository_policy(repositoryName="team/app")["policyText"], policy)
        ecr.delete_repository_policy(repositoryName="team/app")
        self.fails("LifecyclePolicyNotFoundException", ecr.get_lifecycle_policy,
                   repositoryName="team/app")
        self.fails("InvalidParameterException", ecr.put_lifecycle_policy, repositoryName="team/app",
                   lifecyclePolicyText='{"rules": []}' + " " * 100)
        rule = {"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan",
                                                 "countNumber": 5}, "action": {"type": "expire"}}
        text = json.dumps({"rules": [rule]})
        ecr.put_lifecycle_policy(repositoryName="team/app", lifecyclePolicyText=text)
        self.assertEqual(
            ecr.get_lifecycle_policy(repositoryName="team/app")["lifecyclePolicyText"], text)
        ecr.delete_lifecycle_policy(repositoryName="team/app")
        ecr.delete_repository(repositoryName="team/app")
        self.fails("RepositoryNotFoundException", ecr.describe_repositories,
                   repositoryNames=["team/app"])

    def test_repositories_come_in_pages(self):
        ecr = self.ecr()
        for number in range(5):
            ecr.create_repository(repositoryName=f"page/{number}")
        pages = ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2})
        names = [one["repositoryName"] for page in pages for one in page["repositories"]]
        self.assertLessEqual([f"page/{number}" for number in range(5)], names)
        self.assertEqual(names, sorted(set(names)))

    def test_images_are_listed_described_fetched_and_deleted(self):
        ecr = self.ecr()
        with tempfile.TemporaryDirectory() as directory:
            self.push(self.image("one", directory), "img/web:1")
            self.push(self.image("two", directory), "img/web:2")
            self.push(self.image("two", directory), "img/web:latest")
        self.fails("RepositoryNotEmptyException", ecr.delete_repository, repositoryName="img/web")
        ids = ecr.list_images(repositoryName="img/web")["imageIds"]
        self.assertEqual(sorted(one["imageTag"] for one in ids), ["1", "2", "latest"])
        details = ecr.describe_images(repositoryName="img/web")["imageDetails"]
        self.assertEqual([sorted(one["imageTags"]) for one in details], [["1"], ["2", "latest"]])
        self.assertGreater(details[0]["imageSizeInBytes"], 1000)
        one = ecr.describe_images(
            repositoryName="img/web", imageIds=[{"imageTag": "latest"}])["imageDetails"]
        self.assertEqual(one, details[1:])
        self.fails("ImageNotFoundException", ecr.describe_images, repositoryName="img/web",
                   imageIds=[{"imageTag": "none"}])
        fetched = ecr.batch_get_image(
            repositoryName="img/web", imageIds=[{"imageTag": "1"}, {"imageTag": "none"}])
        manifest = fetched["images"][0]["imageManifest"]
        self.assertEqual(oci.digest(manifest.encode()), details[0]["imageDigest"])
        self.assertEqual(fetched["failures"][0]["failureCode"], "ImageNotFound")
        # By the same name it is there already, by another it is not.
        self.fails("ImageAlreadyExistsException", ecr.put_image, repositoryName="img/web",
                   imageManifest=manifest, imageTag="1")
        ecr.put_image(repositoryName="img/web", imageManifest=manifest, imageTag="stable")
        layers = json.loads(manifest)["layers"]
        seen = ecr.batch_check_layer_availability(
            repositoryName="img/web", layerDigests=[layers[0]["digest"], MISSING])["layers"]
        self.assertEqual([one["layerAvailability"] for one in seen], ["AVAILABLE", "UNAVAILABLE"])
        url = ecr.get_download_url_for_layer(
            repositoryName="img/web", layerDigest=layers[0]["digest"])["downloadUrl"]
        got = Client(self.address, self.credentials()).ask("GET", urllib.parse.urlparse(url).path)
        self.assertEqual(oci.digest(got.body), layers[0]["digest"])
        gone = ecr.batch_delete_image(repositoryName="img/web", imageIds=[{"imageTag": "1"}])
        self.assertEqual(gone["imageIds"][0]["imageTag"], "1")
        ecr.batch_delete_image(
            repositoryName="img/web", imageIds=[{"imageDigest": details[1]["imageDigest"]}])
        left = ecr.list_images(repositoryName="img/web")["imageIds"]
        self.assertEqual([one["imageTag"] for one in left], ["stable"])
        both = {"imageTag": "stable", "imageDigest": details[1]["imageDigest"]}
        refused = ecr.batch_delete_image(repositoryName="img/web", imageIds=[both])
        self.assertEqual(refused["failures"][0]["failureCode"], "ImageTagDoesNotMatchDigest")
        # With its last tag the image goes.
        ecr.batch_delete_image(repositoryName="img/web", imageIds=left)
        self.assertEqual(ecr.list_images(repositoryName="img/web")["imageIds"], [])
        ecr.delete_repository(repositoryName="img/web")

    def test_a_layer_comes_in_parts_and_an_image_of_it(self):
        ecr = self.ecr()
        ecr.create_repository(repositoryName="parts", imageTagMutability="IMMUTABLE")
        blobs = [os.urandom(1_200_000), b"{}"]
        for data in blobs:
            upload = ecr.initiate_layer_upload(repositoryName="parts")
            size = upload["partSize"]
            for first in range(0, len(data), size):
                part = data[first:first + size]
                ecr.upload_layer_part(
                    repositoryName="parts", uploadId=upload["uploadId"], partFirstByte=first,
                    partLastByte=first + len(part) - 1, layerPartBlob=part)
            ecr.complete_layer_upload(repositoryName="parts", uploadId=upload["uploadId"],
                                      layerDigests=[oci.digest(data)])
        self.fails("UploadNotFoundException", ecr.upload_layer_part, repositoryName="parts",
                   uploadId=upload["uploadId"], partFirstByte=0, partLastByte=0, layerPartBlob=b"x")
        layer, config = blobs
        manifest = manifest_of(config, layer)
        put = ecr.put_image(repositoryName="parts", imageManifest=manifest.decode(), imageTag="1")
        self.assertEqual(put["image"]["imageId"]["imageDigest"], oci.digest(manifest))
        other = manifest_of(config, layer, note="other")
        self.fails("ImageTagAlreadyExistsException", ecr.put_image, repositoryName="parts",
                   imageManifest=other.decode(), imageTag="1")
        unknown = manifest_of(config, b"not pushed")
        self.fails("LayersNotFoundException", ecr.put_image, repositoryName="parts",
                   imageManifest=unknown.decode(), imageTag="2")


class Deliveries(RegistryCase):
    """A push to a watched tag is deployed."""

    label = "deliv"

    def watched(self, name, image):
        """A running service that deploys by itself."""
        request = service_request(name, image)
        request["SourceConfiguration"]["AutoDeploymentsEnabled"] = True
        answer = self.ekiden.client().create_service(**request)
        service = answer["Service"]
        self.addCleanup(self.remove, service["ServiceArn"])
        self.succeeds(service["ServiceArn"], answer["OperationId"])
        return service

    def page(self, service):
        return self.ekiden.get(service, "/")[2].decode().strip()

    def shows(self, service, text, seconds=60):
        until(f"the page is {text}", lambda: self.page(service) == text, seconds,
              lambda: self.page(service))

    def operations(self, service):
        return self.ekiden.client().list_operations(
            ServiceArn=service["ServiceArn"])["OperationSummaryList"]

    def test_a_push_is_deployed_and_one_that_fails_is_tried_once(self):
        with tempfile.TemporaryDirectory() as directory:
            image = self.push(self.image("one", directory), "deliver/web:latest")
            service = self.watched("pushed", image)
            self.assertEqual(self.page(service), "one")
            self.push(self.image("two", directory), "deliver/web:latest")
            self.shows(service, "two")
            # Another tag is nobody's.
            self.push(self.image("three", directory), "deliver/web:next")
            broken = oci.Image([oci.busybox_layer()], command=("false",))
            archive = broken.archive(pathlib.Path(directory) / "broken.tar")
            self.push(archive, "deliver/web:latest")
            until("the third deployment is over",
                  lambda: len(self.operations(service)) == 3
                  and self.operations(service)[0]["Status"] == "ROLLBACK_SUCCEEDED", 120)
            self.assertEqual(self.page(service), "two")
            self.push(self.image("four", directory), "deliver/web:latest")
            self.shows(service, "four")
            until("all is over", lambda: self.operations(service)[0]["Status"] == "SUCCEEDED", 60)
            self.assertEqual(len(self.operations(service)), 4)

    def test_of_a_burst_the_last_is_live_and_no_request_is_lost(self):
        with tempfile.TemporaryDirectory() as directory:
            image = self.push(self.image("0", directory), "burst/web:latest")
            service = self.watched("burst", image)
            archives = [self.image(str(number), directory) for number in range(1, BURST + 1)]
            bad, lock = [], threading.Lock()

            def once():
                status, _, body = self.ekiden.get(service, "/")
                if status != 200:
                    with lock:
                        bad.append((status, body))

            with Repeat(once, 2):
                for archive in archives:
                    self.push(archive, "burst/web:latest")
                self.shows(service, str(BURST), 120)
            self.assertEqual(bad, [])
            until("all is over", lambda: self.status(service["ServiceArn"]) == "RUNNING", 60)
            self.assertEqual(self.page(service), str(BURST))
            states = {operation["Status"] for operation in self.operations(service)}
            self.assertEqual(states, {"SUCCEEDED"})
            print(f"    {len(self.operations(service)) - 1} deployments of {BURST} pushes", flush=True)

    def test_a_push_is_deployed_after_control_was_away(self):
        with tempfile.TemporaryDirectory() as directory:
            image = self.push(self.image("old", directory), "away/web:latest")
            service = self.watched("away", image)
            new = self.image("new", directory)
            self.push(new, "away/web:latest")
            host.kill(self.ekiden.pid("control"))
            self.ekiden.wait_serves()
            self.shows(service, "new")

    def test_ecrs_name_is_this_registry_and_what_is_returned_to_stays(self):
        with tempfile.TemporaryDirectory() as directory:
            self.push(self.image("first", directory), "named/web:latest")
            request = service_request("named", f"{ECR}/named/web:latest")
            source = request["SourceConfiguration"]
            source["AutoDeploymentsEnabled"] = True
            source["AuthenticationConfiguration"] = {
                "AccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/pull"}
            answer = self.ekiden.client().create_service(**request)
            service = answer["Service"]
            arn = service["ServiceArn"]
            self.addCleanup(self.remove, arn)
            self.succeeds(arn, answer["OperationId"])
            self.push(self.image("second", directory), "named/web:latest")
            self.shows(service, "second")
            until("all is over", lambda: self.status(arn) == "RUNNING", 60)
            self.ekiden.cli("rollback", "named")
            self.shows(service, "first")
            until("all is over", lambda: self.status(arn) == "RUNNING", 60)
            # It was looked at before: nobody deploys it again.
            count = len(self.operations(service))
            self.push(self.image("elsewhere", directory), "named/other:latest")
            self.assertEqual(self.page(service), "first")
            self.assertEqual(len(self.operations(service)), count)


class Elsewhere(Deliveries):
    """Images of a registry that tells nobody of a push."""

    label = "else"
    extra = '[host]\n[images]\npoll = "1s"\n'

    def push(self, archive, name):
        return images.registry().push(archive, name)

    # It is Debian's registry that is pushed to: ECR's name is not its.
    test_ecrs_name_is_this_registry_and_what_is_returned_to_stays = None
    test_of_a_burst_the_last_is_live_and_no_request_is_lost = None


class TerraformRegistry(RegistryCase):
    label = "tfecr"

    @classmethod
    def setUpClass(cls):
        if lacking := terraform.lacking():
            raise unittest.SkipTest(
                f"TERRAFORM IS NOT TESTED HERE; not installed: {' and '.join(lacking)}")
        super().setUpClass()

    def test_repositories_live_from_apply_to_destroy_with_a_service_on_a_push(self):
        variables = json.loads(self.ekiden.cli("env", "--output", "json"))
        environment = host.environment() | variables | {"HOME": str(self.ekiden.base)}
        source = pathlib.Path(__file__).resolve().parent / "terraform/registry"
        run = terraform.Terraform(source, self.ekiden.base / "registry", environment)
        run.variables(endpoint=self.ekiden.endpoint)
        run.apply()
        self.assertEqual(run.changes(), "")
        self.assertEqual(run.outputs()["url"], f"{ECR}/shop/web")
        with tempfile.TemporaryDirectory() as directory:
            self.push(self.image("one", directory), "shop/web:latest")
            run.variables(phase=2)
            run.apply()
            self.assertEqual(run.changes(), "")
            service = run.outputs()["service"]
            self.assertEqual(self.ekiden.get(service, "/")[2], b"one\n")
            self.push(self.image("two", directory), "shop/web:latest")
            until("the push is live", lambda: self.ekiden.get(service, "/")[2] == b"two\n", 60)
            until("all is over", lambda: all(
                one["Status"] == "RUNNING"
                for one in self.ekiden.client().list_services()["ServiceSummaryList"]), 60)
            self.assertEqual(run.changes(), "")
        run.destroy()
        self.assertEqual(self.ecr().describe_repositories()["repositories"], [])


class Client:
    """Raw requests to a registry."""

    def __init__(self, address, credentials):
        self.address, self.credentials = address, credentials

    def connection(self):
        connection = http.client.HTTPConnection(*self.address.split(":"), timeout=120)
        return Closing(connection)

    def fields(self):
        if self.credentials is None:
            return {}
        encoded = base64.b64encode(self.credentials.encode()).decode()
        return {"Authorization": f"Basic {encoded}"}

    def ask(self, method, path, body=None, fields=None):
        if path.startswith("http://"):
            parts = urllib.parse.urlparse(path)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
        with self.connection() as connection:
            # Whoever is refused at once need not send the rest.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, {**self.fields(), **(fields or {})})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())


class Closing:
    def __init__(self, connection):
        self.it = connection

    def __enter__(self):
        return self.it

    def __exit__(self, *_):
        self.it.close()


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def errors(self):
        try:
            return json.loads(self.body).get("errors", [])
        except (ValueError, AttributeError):
            return []

    def codes(self):
        return [error["code"] for error in self.errors()]

    def message(self):
        return " ".join(error["message"] for error in self.errors())

    def facts(self):
        """What clients go by, and nothing else."""
        told = ("docker-content-digest", "content-range", "range")
        facts = {name: self.fields[name] for name in told if name in self.fields}
        if self.status < 300:
            facts["type"] = self.fields.get("content-type", "").split(";")[0]
            facts["body"] = hashlib.sha256(self.body).hexdigest() if self.body else ""
            if facts["type"] == "application/json":
                value = json.loads(self.body)
                if "tags" in value:
                    value["tags"].sort()  # Debian's has no order
                facts["body"] = json.dumps(value, sort_keys=True)
        return self.status, self.codes(), facts


def manifest_of(config, layer, note=None):
    manifest = {
        "schemaVersion": 2, "mediaType": oci.MANIFEST,
        "config": {"mediaType": oci.CONFIG, "digest": oci.digest(config), "size": len(config)},
        "layers": [{"mediaType": oci.LAYER, "digest": oci.digest(layer), "size": len(layer)}],
    }
    if note:
        manifest["annotations"] = {"note": note}
    return oci.as_json(manifest)


def requests():
    """Names, and functions that ask a client and give its answers, in the order to ask them."""
    data, config = bytes(range(256)) * 400, b"{}"
    digest, length = oci.digest(data), len(data)
    manifest = manifest_of(config, data)
    named = oci.digest(manifest)
    index = oci.as_json({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [
        {"mediaType": oci.MANIFEST, "digest": named, "size": len(manifest)}]})
    kind = {"Content-Type": oci.MANIFEST}
    accept = {"Accept": f"{oci.MANIFEST}, {oci.INDEX}"}

    def one(*request):
        return lambda client: [client.ask(*request)]

    def whole(name, blob):
        def run(client):
            place = client.ask("POST", f"/v2/{name}/blobs/uploads/").fields["location"]
            mark = "&" if "?" in place else "?"
            return [client.ask("PUT", f"{place}{mark}digest={oci.digest(blob)}", blob,
                               {"Content-Type": "application/octet-stream"})]
        return run

    def pieces(name, blob):
        def run(client):
            begun = client.ask("POST", f"/v2/{name}/blobs/uploads/")
            half = len(blob) // 2
            first = client.ask("PATCH", begun.fields["location"], blob[:half], {
                "Content-Range": f"0-{half - 1}", "Content-Type": "application/octet-stream"})
            second = client.ask("PATCH", first.fields["location"], blob[half:], {
                "Content-Range": f"{half}-{len(blob) - 1}",
                "Content-Type": "application/octet-stream"})
            place = second.fields["location"]
            mark = "&" if "?" in place else "?"
            return [first, second, client.ask("PUT", f"{place}{mark}digest={oci.digest(blob)}")]
        return run

    def wrong(client):
        place = client.ask("POST", "/v2/d/web/blobs/uploads/").fields["location"]
        mark = "&" if "?" in place else "?"
        return [client.ask("PUT", f"{place}{mark}digest={MISSING}", b"x")]

    def given_up(client):
        place = client.ask("POST", "/v2/d/web/blobs/uploads/").fields["location"]
        return [client.ask("DELETE", place), client.ask("GET", place)]

    blob = f"/v2/d/web/blobs/{digest}"
    yield "base", one("GET", "/v2/")
    yield "a manifest of nothing", one("GET", "/v2/d/web/manifests/1", None, accept)
    yield "a blob of nothing", one("HEAD", blob)
    yield "a whole upload", whole("d/web", data)
    yield "an upload in pieces", pieces("d/pieces", data)
    yield "a configuration", whole("d/web", config)
    yield "a wrong digest", wrong
    yield "an upload given up", given_up
    yield "a blob's head", one("HEAD", blob)
    yield "a blob", one("GET", blob)
    yield "a part of a blob", one("GET", blob, None, {"Range": "bytes=10-19"})
    yield "the end of a blob", one("GET", blob, None, {"Range": f"bytes={length - 5}-"})
    yield "another's blob is mounted", one(
        "POST", f"/v2/d/copy/blobs/uploads/?mount={digest}&from=d/web")
    yield "a missing blob", one("GET", f"/v2/d/web/blobs/{MISSING}")
    yield "an image without its layer", one(
        "PUT", "/v2/d/web/manifests/bad", manifest_of(config, b"not here"), kind)
    yield "no image at all", one("PUT", "/v2/d/web/manifests/bad", b"{", kind)
    yield "an image", one("PUT", "/v2/d/web/manifests/1", manifest, kind)
    yield "the same again", one("PUT", "/v2/d/web/manifests/1", manifest, kind)
    yield "by its digest", one("PUT", f"/v2/d/web/manifests/{named}", manifest, kind)
    yield "by another's digest", one("PUT", f"/v2/d/web/manifests/{MISSING}", manifest, kind)
    yield "a second tag", one("PUT", "/v2/d/web/manifests/2", manifest, kind)
    yield "an index", one("PUT", "/v2/d/web/manifests/all", index, {"Content-Type": oci.INDEX})
    yield "an image's head", one("HEAD", "/v2/d/web/manifests/1", None, accept)
    yield "an image by tag", one("GET", "/v2/d/web/manifests/1", None, accept)
    yield "an image by digest", one("GET", f"/v2/d/web/manifests/{named}", None, accept)
    yield "an index by tag", one("GET", "/v2/d/web/manifests/all", None, accept)
    yield "a missing tag", one("GET", "/v2/d/web/manifests/none", None, accept)
    yield "tags", one("GET", "/v2/d/web/tags/list")
    yield "tags of nothing", one("GET", "/v2/d/none/tags/list")
    yield "a blob is deleted", one("DELETE", f"/v2/d/pieces/blobs/{digest}")
    yield "and again", one("DELETE", f"/v2/d/pieces/blobs/{digest}")
    yield "an image is deleted", one("DELETE", f"/v2/d/web/manifests/{named}")
    yield "and is gone", one("GET", "/v2/d/web/manifests/1", None, accept)
