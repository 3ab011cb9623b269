"""Whoever can reach the API can send it anything: bytes that are no request, requests that are no
protocol, signatures that are nobody's, and far too much of everything.

Each test: a clear error or a closed connection, and the API serves others as before. Memory of the
control plane is bounded all along.
"""

import concurrent.futures
import contextlib
import json
import os

import boto3
import botocore.config
import botocore.exceptions

from support import host, settings
from support.case import EkidenCase
from support.raw import Request, answer, connect, exchange
from support.server import service_request
from support.wait import until

NOBODYS = "localhost/hostile/none:1"

# Of a debug build; what is asked of it at once is 64 MiB of bodies at most.
MEMORY_BYTES_MAX = 160 << 20
BODY_BYTES_MAX = 1 << 20
CLIENTS = 1000


class HostileApi(EkidenCase):
    label = "host"

    @classmethod
    def setUpClass(cls):
        cls.start_ekiden()

    def setUp(self):
        self.address = ("127.0.0.1", self.ekiden.api_port)

    def tearDown(self):
        self.serves()
        memory = host.pss_bytes(self.ekiden.pid("control"))
        self.assertLess(memory, MEMORY_BYTES_MAX, "memory of the control plane")

    def serves(self):
        status, _, body = Request(self.ekiden).sign().send()
        self.assertEqual(status, 200, body)

    def request(self, *arguments, **more):
        return Request(self.ekiden, *arguments, **more)

    def answered(self, code, request, *more, status=None):
        """An error of the protocol with this code, whole and with its headers."""
        got, headers, body = request.send(*more)
        self.assertIsInstance(body, dict, body)
        self.assertEqual(body["__type"], code, body)
        self.assertEqual(body["Message"], body["message"])
        self.assertTrue(body["Message"])
        if status:
            self.assertEqual(got, status)
        for name in ("x-amzn-requestid", "content-type", "date"):
            self.assertIn(name, headers)
        self.assertNotIn(request.secret, json.dumps(body))
        return body["Message"]

    # ---- bodies

    def test_bodies_that_are_no_json(self):
        for body in (b"{", b'{"MaxResults"', b'{"MaxResults":1', b'{"MaxResults":1}}', b"[]", b"5",
                     b"null x", b"nonsense", b"{'MaxResults':1}", b'{"MaxResults":01}',
                     b'{"MaxResults":1,}', b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b"\xfe\xff\x00{",
                     b'{"a":"\x00"}', b'{"\\ud800":1}', b'{"a":NaN}', b'{"a":1e999999}'):
            with self.subTest(body=body):
                self.answered("SerializationException", self.request(body=body).sign(), status=400)

    def test_members_that_are_given_twice(self):
        for body in (b'{"MaxResults":1,"MaxResults":2}', b'{"MaxResults":1,"MaxResults":1}',
                     b'{"MaxResults":1,"Max\\u0052esults":2}', b'{"Other":1,"Other":2}'):
            with self.subTest(body=body):
                self.answered("SerializationException", self.request(body=body).sign(), status=400)

    def test_bodies_that_are_nested_deeply(self):
        for depth in (40, 1000, 200_000):
            for opening, closing in (('{"A":', "}"), ("[", "]")):
                body = (opening * depth + "1" + closing * depth).encode()
                body = b'{"A":' + body + b"}"
                if len(body) <= BODY_BYTES_MAX:
                    self.answered("SerializationException", self.request(body=body).sign())
        self.answered("SerializationException", self.request(body=b"[" * 500_000).sign())

    def test_bodies_of_the_greatest_size(self):
        body = b'{"Unknown":"' + b"a" * (BODY_BYTES_MAX - 14) + b'"}'
        self.assertEqual(len(body), BODY_BYTES_MAX)
        self.assertEqual(self.request(body=body).sign().send()[0], 200)
        self.answered("RequestEntityTooLargeException", self.request(body=body + b" ").sign(),
                      status=413)
        many = b'{"Tags":[' + b",".join([b'{"Key":"k"}'] * 80_000) + b"]}"
        self.answered("SerializationException", self.request("TagResource", many).sign())
        some = b'{"ResourceArn":"x","Tags":[' + b",".join([b'{"Key":"aws:k"}'] * 300) + b"]}"
        message = self.answered("InvalidRequestException", self.request("TagResource", some).sign())
        self.assertTrue(message.startswith("301 validation errors detected: "), message)
        self.assertTrue(message.endswith("; and 269 more"), message)

    def test_bodies_without_end(self):
        with connect(self.address) as connection:
            request = self.request().sign()
            with contextlib.suppress(ConnectionError):
                connection.sendall(request.head("transfer-encoding: chunked"))
                for _ in range(200):
                    connection.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
            status, _, body = answer(connection)
        self.assertIn(status, (413, None), body)

    def test_chunked_bodies_are_taken(self):
        request = self.request(body=b'{"MaxResults":1}').sign()
        data = request.head("transfer-encoding: chunked")
        data += b"".join(b"1\r\n%c\r\n" % byte for byte in request.body) + b"0\r\n\r\n"
        self.assertEqual(exchange(self.address, data)[0], 200)

    def test_content_types(self):
        for kind in ("text/plain", "application/json", "application/xml", "", "multipart/form-data",
                     "application/x-amz-json-9.9", "application/x-amz-json-1.0x"):
            with self.subTest(kind=kind):
                request = self.request()
                request.headers["content-type"] = kind
                status, _, body = request.sign().send()
                self.assertIn(status, (400, 404), body)
                self.assertIn(body["__type"], (
                    "MalformedHttpRequestException", "UnknownOperationException"))
        for kind in ("application/x-amz-json-1.0; charset=utf-8", "Application/X-AMZ-JSON-1.0"):
            request = self.request()
            request.headers["content-type"] = kind
            self.assertEqual(request.sign().send()[0], 200, kind)

    # ---- HTTP

    def test_what_is_no_http(self):
        request = self.request().sign()
        head = request.head()
        for data in (b"\0" * 1000, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                     head.replace(b"HTTP/1.1", b"HTTP/9.9"), head.replace(b": ", b" : "),
                     head.replace(b"host: ", b"host\0: "),
                     head.replace(b"content-length: 2", b"content-length: -2"),
                     head.replace(b"content-length: 2", b"content-length: 2, 3"),
                     head.replace(b"content-length: 2", b"content-length: 99999999999999999999"),
                     head.replace(b"content-length: 2",
                                  b"content-length: 2\r\ncontent-length: 3")):
            with self.subTest(data=data[:40]):
                status, _, _ = exchange(self.address, data + request.body)
                self.assertIn(status, (400, 413, 505, None))

    def test_other_methods_and_paths(self):
        for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "MADE-UP"):
            request = self.request()
            request.method = method
            self.assertEqual(request.sign().send()[0], 404, method)
        for path in ("/x", "//", "/../", "/%2e", "/?X", "/%00", "/" + "a" * 2000):
            request = self.request()
            request.path = path
            status, _, _ = request.sign().send()
            self.assertIn(status, (400, 403, 404), path)

    def test_floods_of_headers(self):
        request = self.request().sign()
        for more in ([f"x-flood-{n}: {n}" for n in range(2000)], [f"x-flood: {'a' * 900_000}"],
                     [f"x-{'a' * 70_000}: 1"]):
            status, _, _ = request.send(*more)
            self.assertIn(status, (400, 431, None))
        twice = self.request().sign()
        self.assertEqual(twice.send("x-amz-target: AppRunner.DeleteService")[0], 404)

    def test_a_head_without_end(self):
        with connect(self.address) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\n")
            with contextlib.suppress(ConnectionError):
                for number in range(100_000):
                    connection.sendall(b"x-%d: %d\r\n" % (number, number))
            status, _, _ = answer(connection)
        self.assertIn(status, (400, 431, None))

    def test_pipelined_requests_are_answered_in_turn(self):
        request = self.request().sign()
        one = request.head().replace(b"connection: close\r\n", b"") + request.body
        with connect(self.address) as connection:
            connection.sendall(one * 9 + request.head() + request.body)
            received = b""
            while chunk := connection.recv(1 << 16):
                received += chunk
        self.assertEqual(received.count(b"HTTP/1.1 200"), 10)

    def test_clients_that_stop_half_way(self):
        """500 of them hold their connections: all others are served meanwhile."""
        request = self.request(body=b"{" + b" " * 1000 + b"}").sign()
        whole = request.head() + request.body
        with contextlib.ExitStack() as stack:
            for number in range(500):
                connection = stack.enter_context(connect(self.address))
                connection.sendall(whole[:len(whole) * number // 500])
            for _ in range(20):
                self.serves()
            # Some leave without a word.
            half = stack.pop_all()
        half.close()
        self.serves()

    # ---- signatures

    def test_requests_that_are_not_signed(self):
        request = self.request()
        request.headers["x-amz-date"] = f"{request.at:%Y%m%dT%H%M%SZ}"
        self.answered("MissingAuthenticationTokenException", request, status=403)

    def test_a_signature_wrong_in_each_of_its_parts(self):
        good = self.request().sign().signature
        scope = self.request().scope
        day, region, service, last = scope.split("/")
        key = self.request().key_id
        for credential in (f"{key}/20200101/{region}/{service}/{last}",
                           f"{key}/{day}/eu-west-1/{service}/{last}",
                           f"{key}/{day}/{region}/s3/{last}", f"{key}/{day}/{region}/{service}/x"):
            with self.subTest(credential=credential):
                self.answered("InvalidSignatureException",
                              self.request().sign().authorize(credential), status=403)
        for credential in (key, f"{key}/", f"{key}/{day}/{region}", "/" + scope, f"{scope}", "////",
                           "a" * 5000):
            with self.subTest(credential=credential[:50]):
                status, _, body = self.request().sign().authorize(credential).send()
                self.assertEqual((status, body["__type"]), (403, "IncompleteSignature"))
        self.answered("UnrecognizedClientException",
                      self.request().sign().authorize(f"AKIANOBODY/{scope}"), status=403)
        for signature in (good[:-1] + ("0" if good[-1] != "0" else "1"), good.upper(), good[:-1],
                          good + "0", "0" * 64, "x", "%00"):
            with self.subTest(signature=signature):
                self.answered("InvalidSignatureException",
                              self.request().sign().authorize(signature=signature), status=403)
        self.answered("IncompleteSignature", self.request().sign().authorize(signature=""))
        for algorithm in ("AWS4-HMAC-SHA1", "Basic", "Bearer", "AWS4-ECDSA-P256-SHA256", "AWS"):
            request = self.request().sign()
            request.algorithm = algorithm
            self.answered("IncompleteSignature", request.authorize(), status=403)
        request = self.request()
        request.secret = "not the secret"
        self.answered("InvalidSignatureException", request.sign(), status=403)

    def test_the_authorization_header_in_pieces(self):
        request = self.request().sign()
        whole = request.headers["authorization"]
        for text in (whole.replace("Credential", "Cred"), whole.replace("Signature=", "Sig="),
                     whole.replace("SignedHeaders=", "X="), whole + ", Signature=0", whole + ",",
                     whole + ", Extra=1", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "", " ",
                     "AWS4-HMAC-SHA256 " + "a=b," * 3000, whole.replace(", ", ";")):
            with self.subTest(text=text[:60]):
                request.headers["authorization"] = text
                status, _, body = request.send()
                self.assertEqual(status, 403, body)
                self.assertIn(body["__type"], (
                    "IncompleteSignature", "MissingAuthenticationTokenException"))
        request.headers["authorization"] = whole
        self.answered("IncompleteSignature", request, f"authorization: {whole}", status=403)

    def test_a_signature_out_of_its_time(self):
        for difference in ({"minutes": -16}, {"minutes": 16}, {"days": -1}, {"days": 1},
                           {"days": -3650}):
            message = self.answered("InvalidSignatureException",
                                    self.request().later(**difference).sign(), status=403)
            self.assertIn("not yet" if max(difference.values()) > 0 else "expired", message)
        for difference in ({"minutes": -14}, {"minutes": 14}):
            self.assertEqual(self.request().later(**difference).sign().send()[0], 200)
        for date in ("yesterday", "20261127", "2026-11-27T00:00:00Z", "20261332T000000Z", ""):
            request = self.request().sign()
            request.headers["x-amz-date"] = date
            status, _, body = request.send()
            self.assertEqual(status, 403, body)

    def test_what_was_signed_is_what_counts(self):
        """Changed after it was signed, or never under the signature."""
        changes = {"x-amz-target": "AppRunner.DeleteService", "host": "elsewhere",
                   "content-type": "application/x-amz-json-1.1"}
        for name, value in changes.items():
            request = self.request().sign()
            request.headers[name] = value
            self.answered("InvalidSignatureException", request, status=403)
        request = self.request().sign()
        request.body = b'{"MaxResults":2}'
        self.answered("InvalidSignatureException", request, status=403)
        for left_out in ("host", "x-amz-date", "x-amz-target"):
            request = self.request()
            request.signed = tuple(name for name in request.signed if name != left_out)
            self.answered("InvalidSignatureException", request.sign(), status=403)
        request = self.request()
        request.signed = (*request.signed, "x-never-sent")
        self.answered("InvalidSignatureException", request.sign(), status=403)
        request = self.request().sign()
        self.answered("InvalidSignatureException", request, "x-amz-security-token: token")
        request = self.request()
        request.headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
        request.signed = tuple(sorted((*request.signed, "x-amz-content-sha256")))
        self.answered("InvalidSignatureException", request.sign(), status=403)

    def test_paths_that_are_encoded_twice(self):
        for path, canonical in (("/%252F", "/%25252F"), ("/%2F", "/%252F"), ("/", "/%2F")):
            request = self.request()
            request.path = path
            status, _, _ = request.sign(canonical).send()
            self.assertIn(status, (403, 404), path)

    def test_presigned_requests(self):
        request = self.request()
        request.query = (f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={request.key_id}%2F"
                         f"{request.scope.replace('/', '%2F')}&X-Amz-Expires=60"
                         f"&X-Amz-Signature={'0' * 64}&X-Amz-SignedHeaders=host")
        self.answered("IncompleteSignature", request, status=403)

    def test_a_replay_within_the_window_is_the_same_request(self):
        request = self.request().sign()
        self.assertEqual([request.send()[0] for _ in range(3)], [200] * 3)

    # ---- too much at once

    def client(self):
        key = self.ekiden.key()
        return boto3.client(
            "apprunner", region_name=settings.REGION, endpoint_url=self.ekiden.endpoint,
            aws_access_key_id=key["access_key_id"],
            aws_secret_access_key=key["secret_access_key"],
            config=botocore.config.Config(
                max_pool_connections=CLIENTS, retries={"max_attempts": 1, "mode": "standard"}))

    def test_a_thousand_changes_of_one_service_at_once(self):
        """Each is accepted, or refused with the state or as too many; one operation at a time."""
        client = self.client()
        made = client.create_service(**service_request("contended", NOBODYS))
        arn = made["Service"]["ServiceArn"]
        self.addCleanup(self.remove, arn)
        self.ekiden.wait_operation(arn, made["OperationId"])

        def change(number):
            body = {"ServiceArn": arn, "InstanceConfiguration": {"Memory": str(256 + number)}}
            return self.request("UpdateService", json.dumps(body).encode()).sign()

        before = host.pss_bytes(self.ekiden.pid("control"))
        requests = [change(number) for number in range(CLIENTS)]
        with contextlib.ExitStack() as stack:
            # All are there before any is read.
            connections = [stack.enter_context(connect(self.address)) for _ in requests]
            for connection, request in zip(connections, requests):
                connection.sendall(request.head() + request.body)
            answers = [answer(connection)[2] for connection in connections]
        accepted = [a["OperationId"] for a in answers if "OperationId" in a]
        refused = {a["__type"] for a in answers if "OperationId" not in a}
        self.assertGreater(len(accepted), 0)
        self.assertLessEqual(refused, {"InvalidStateException", "ThrottlingException"})
        until("at rest", lambda: self.status(arn) != "OPERATION_IN_PROGRESS", 60)
        operations, token = [], {}
        while not operations or token:
            page = client.list_operations(ServiceArn=arn, MaxResults=20, **token)
            operations += page["OperationSummaryList"]
            token = {"NextToken": page["NextToken"]} if "NextToken" in page else {}
        self.assertEqual({o["Id"] for o in operations}, {*accepted, made["OperationId"]})
        self.assertEqual({o["Status"] for o in operations}, {"FAILED"})
        after = host.pss_bytes(self.ekiden.pid("control"))
        print(f"    {len(accepted)} of {CLIENTS} accepted; control had {before >> 20} MiB, "
              f"then {after >> 20} MiB", flush=True)

    def test_two_creates_of_one_name_at_the_same_moment(self):
        """One is made; everyone else is told that the name is taken."""
        client = self.client()
        for number in range(5):
            name = f"contested-{number}"

            def create(_, name=name):
                try:
                    return client.create_service(**service_request(name, NOBODYS))["Service"]
                except botocore.exceptions.ClientError as error:
                    return error.response["Error"]

            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                results = list(pool.map(create, range(8)))
            made = [r["ServiceArn"] for r in results if "ServiceArn" in r]
            self.assertEqual(len(made), 1, results)
            self.addCleanup(self.remove, made[0])
            said = {(r["Code"], r["Message"]) for r in results if "Code" in r}
            self.assertEqual(said, {("InvalidRequestException",
                                     f"Service with the provided name already exists: {name}")})

    def test_many_clients_with_the_greatest_bodies(self):
        body = b'{"Unknown":"' + b"a" * (BODY_BYTES_MAX - 14) + b'"}'
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            requests = [self.request(body=body).sign() for _ in range(128)]
            statuses = list(pool.map(lambda request: request.send()[0], requests))
        self.assertEqual(set(statuses), {200})
        self.assertTrue(os.path.exists(f"/proc/{self.ekiden.pid('control')}"))
