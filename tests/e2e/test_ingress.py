"""The front doors of services: who is let in, where clients are sent, who they are taken for."""

import base64
import http.client
import json
import socket

from support import host
from support.case import EkidenCase
from support.server import Ekiden
from support.wait import until

PASSWORD = "correct-horse-battery"
# Loopback addresses of clients; the second is a trusted proxy.
CLIENT, PROXY = "127.0.0.1", "127.0.0.2"
LOG_BYTES = 1 << 20
LOG_FILES = 3


class Ingress(EkidenCase):
    label = "ingre"

    @classmethod
    def start_ekiden(cls):
        cls.check_host()
        cls.ekiden = Ekiden(cls.label, cls.prefix)
        cls.private_port, cls.proxied_port = host.free_port(), host.free_port()
        text = cls.ekiden.config.read_text()
        public = f'"127.0.0.1:{cls.ekiden.edge_port}"'
        private, proxied = (f'"127.0.0.1:{port}"' for port in (cls.private_port, cls.proxied_port))
        cls.ekiden.config.write_text(text.replace(
            f"listen = [{public}]\n",
            f"listen = [{public}, {private}, {proxied}]\n"
            f"listen_private = [{private}]\n"
            f"proxy_protocol = [{proxied}]\n"
            f'trusted_proxies = ["{PROXY}"]\n'
            f'access_log_bytes = "1MiB"\naccess_log_files = {LOG_FILES}\n', 1))
        cls.addClassCleanup(cls.ekiden.teardown)
        cls.ekiden.start()

    # ---- helpers

    def set(self, service, *settings):
        return json.loads(self.ekiden.cli(
            "ingress", "set", service["ServiceName"], *settings, "--output", "json"))

    def ask(self, service, path="/whoami", headers=None, port=None, source=CLIENT):
        """One request: status, fields (names in lower case) and body."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", port or self.ekiden.edge_port, timeout=40, source_address=(source, 0))
        try:
            where = service if isinstance(service, str) else service["ServiceUrl"]
            connection.request("GET", path, None, {"Host": where, **(headers or {})})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, response.read()
        finally:
            connection.close()

    def check(self, service, status, cause=None, **request):
        found, fields, body = self.ask(service, **request)
        self.assertEqual((found, fields.get("x-ekiden-cause")), (status, cause), body)
        return fields, body

    # ---- what is let in

    def test_redirects_lead_to_https_and_to_the_canonical_host(self):
        web = self.running("redirects")
        self.set(web, "https_redirect.on=true", "https_redirect.except=/health")
        fields, _ = self.check(web, 308, "https_required", path="/a?b=c")
        self.assertEqual(fields["location"],
                         f"https://{web['ServiceUrl']}:{self.ekiden.tls_port}/a?b=c")
        self.check(web, 200, path="/health")
        # Behind a proxy that has taken TLS off.
        self.check(web, 200, source=PROXY, headers={"X-Forwarded-Proto": "https"})
        self.check(web, 308, "https_required", headers={"X-Forwarded-Proto": "https"})
        # One that does not lead here is not redirected to.
        self.set(web, "https_redirect=", "canonical_host=elsewhere.example")
        self.check(web, 200)
        shown = json.loads(self.ekiden.cli(
            "ingress", "show", "redirects", "--output", "json"))
        self.assertEqual(shown["canonical_host"], "elsewhere.example")

    def test_causes_are_counted_and_shown_by_command(self):
        web = self.running("counted")
        self.set(web, "deny_paths=/whoami")

        def traffic():
            return json.loads(self.ekiden.cli(
                "ingress", "traffic", "counted", "--output", "json"))

        def counted(denied):
            return until("counted", lambda: (
                lambda now: now if now["Causes"].get("path_denied") == denied else None)(traffic()))

        for _ in range(3):
            self.check(web, 403, "path_denied")
        self.check(web, 200, path="/health")
        now = counted(3)
        self.assertGreaterEqual(now["Status4xx"], 3)
        # Another edge adds to it.
        old = self.ekiden.pid("edge")
        host.kill(old)
        until("another edge", lambda: self.ekiden.pid("edge") not in (old, None))
        until("it serves", lambda: self.ekiden.serves())
        self.check(web, 403, "path_denied")
        self.assertGreaterEqual(counted(4)["Status2xx"], 1)
        self.assertIn("path_denied", self.ekiden.cli("ingress", "traffic", "counted"))
        status = self.ekiden.cli("status")
        self.assertRegex(status, r"requests: \d+ in .*path_denied \d+")

    def test_a_login_is_asked_for_and_its_password_is_nowhere(self):
        web = self.running("login")
        said = self.ekiden.cli("ingress", "login", "login", "ann", input=PASSWORD + "\n")
        self.assertNotIn(PASSWORD, said)
        fields, _ = self.check(web, 401, "login_required")
        self.assertTrue(fields["www-authenticate"].startswith("Basic "))
        basic = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
        self.check(web, 200, headers={"Authorization": f"Basic {basic}"})
        wrong = base64.b64encode(b"ann:wrong-horse-battery").decode()
        self.check(web, 401, "login_required", headers={"Authorization": f"Basic {wrong}"})
        shown = self.ekiden.cli("ingress", "show", "login", "--output", "json")
        self.assertEqual(json.loads(shown)["basic_auth"], [{"user": "ann"}])
        for path in self.ekiden.data.rglob("*"):
            if path.is_file() and "images" not in path.parts:
                content = path.read_bytes()
                self.assertNotIn(PASSWORD.encode(), content, path)
                self.assertNotIn(basic.encode(), content, path)
        self.assertNotIn(PASSWORD, self.ekiden.log_file.read_text())
        self.ekiden.cli("ingress", "login", "login", "ann", "--remove")
        self.check(web, 200)

    def test_addresses_are_those_that_a_trusted_proxy_tells_of(self):
        web = self.running("addresses")
        self.set(web, "allow=192.0.2.0/24", "deny=192.0.2.66")
        told = {"headers": {"X-Forwarded-For": "10.0.0.1, 192.0.2.7"}}
        self.check(web, 403, "address_denied")
        self.check(web, 403, "address_denied", **told)
        self.check(web, 200, source=PROXY, **told)
        self.check(web, 403, "address_denied", source=PROXY,
                   headers={"X-Forwarded-For": "192.0.2.66"})
        self.set(web, "allow=", "deny=", "deny_paths=/whoami")
        self.check(web, 403, "path_denied", path="/x/..%2f%57hoami")
        self.check(web, 200, path="/health")

    def test_the_proxy_protocol_names_the_client(self):
        web = self.running("proxied")
        self.set(web, "allow=192.0.2.7")
        for client, status in (("192.0.2.7", b"200"), ("192.0.2.8", b"403")):
            with socket.create_connection(("127.0.0.1", self.proxied_port), 40) as connection:
                connection.sendall(
                    f"PROXY TCP4 {client} 127.0.0.1 5000 80\r\nGET /health HTTP/1.1\r\n"
                    f"Host: {web['ServiceUrl']}\r\nConnection: close\r\n\r\n".encode())
                self.assertEqual(connection.makefile("rb").readline().split()[1], status)

    def test_a_private_service_is_served_at_private_addresses_only(self):
        web = self.running("hidden")
        self.check(web, 200)
        before = self.ekiden.operation(web["ServiceArn"])["Id"]
        self.set(web, "private=true")
        self.check(web, 404, "not_public")
        self.check(web, 200, port=self.private_port)
        # Neither a deployment nor a new edge or control is needed, or makes a difference.
        self.assertEqual(self.ekiden.operation(web["ServiceArn"])["Id"], before)
        for role in ("edge", "control"):
            old = self.ekiden.pid(role)
            host.kill(old)
            until(f"another {role} serves", lambda: self.ekiden.pid(role) not in (None, old))
            self.ekiden.wait_serves()
            self.check(web, 404, "not_public")
            self.check(web, 200, port=self.private_port)
        self.set(web, "private=")
        self.check(web, 200)

    # ---- what clients get

    def test_sessions_stay_with_their_instance(self):
        scaling = self.ekiden.client().create_auto_scaling_configuration(
            AutoScalingConfigurationName="a-pair", MinSize=2, MaxSize=2)
        arn = scaling["AutoScalingConfiguration"]["AutoScalingConfigurationArn"]
        web = self.running("sessions")
        updated = self.ekiden.client().update_service(
            ServiceArn=web["ServiceArn"], AutoScalingConfigurationArn=arn)
        self.succeeds(web["ServiceArn"], updated["OperationId"])
        self.set(web, "sticky.cookie=stay")
        fields, body = self.check(web, 200)
        first = json.loads(body)["instance"]
        self.assertIn("HttpOnly", fields["set-cookie"])
        cookie = {"Cookie": fields["set-cookie"].split(";")[0]}
        for _ in range(8):
            fields, body = self.check(web, 200, headers=cookie)
            self.assertEqual(json.loads(body)["instance"], first)
            self.assertNotIn("set-cookie", fields)
        # A deployment replaces the instance, and the session goes on elsewhere.
        done = self.ekiden.client().start_deployment(ServiceArn=web["ServiceArn"])
        self.succeeds(web["ServiceArn"], done["OperationId"])
        fields, body = self.check(web, 200, headers=cookie)
        self.assertNotEqual(json.loads(body)["instance"], first)
        self.assertIn("set-cookie", fields)

    def test_a_service_has_its_own_pages(self):
        web = self.running("pages")
        document = {"pages": {"paused": {"body": "<p>back soon"}}}
        self.ekiden.cli("ingress", "set", "pages", "-f", "-", input=json.dumps(document))
        paused = self.ekiden.client().pause_service(ServiceArn=web["ServiceArn"])
        self.succeeds(web["ServiceArn"], paused["OperationId"])
        _, body = self.check(web, 503, "paused", headers={"Accept": "text/html"})
        self.assertEqual(body, b"<p>back soon")
        _, body = self.check(web, 503, "paused", headers={"Accept": "application/json"})
        self.assertEqual(json.loads(body)["cause"], "paused")

    # ---- what is written down

    def test_the_access_log_is_bounded_and_says_who_and_why(self):
        web = self.running("logged")
        directory = self.ekiden.data / "edge"
        path = "/health?" + "x" * 1900
        connection = http.client.HTTPConnection("127.0.0.1", self.ekiden.edge_port, timeout=40)
        for _ in range(3000):
            connection.request("GET", path, None, {"Host": web["ServiceUrl"]})
            connection.getresponse().read()
        connection.close()
        names = {"access.log", *(f"access.log.{n}" for n in range(1, LOG_FILES))}
        found = {entry.name: entry for entry in directory.glob("access.log*")}
        self.assertEqual(set(found), names)
        for entry in found.values():
            # A buffer of each worker may be the one that fills it.
            self.assertLess(entry.stat().st_size, LOG_BYTES + (1 << 18))
            self.assertEqual(entry.stat().st_mode & 0o007, 0)
        line = json.loads(found["access.log.1"].read_text().splitlines()[0])
        self.assertEqual((line["service"], line["status"], line["client"]), ("logged", 200, CLIENT))
        self.assertEqual((line["scheme"], line["protocol"]), ("http", "http/1.1"))
        self.assertEqual(line["instance"], self.ekiden.instances(web["ServiceArn"])[0]["InstanceId"])
        for stage in ("queue_us", "connect_us", "first_byte_us", "total_us"):
            self.assertIn(stage, line)
        self.set(web, "deny=127.0.0.0/8")
        self.check(web, 403, "address_denied")

        def refusal():
            lines = (directory / "access.log").read_text().splitlines()
            last = json.loads(lines[-1]) if lines else {}
            return last.get("cause") == "address_denied" and last["service"] == "logged"

        until("the refusal is logged", refusal, 30)

    def test_what_is_wrong_is_named_and_changes_nothing(self):
        web = self.running("wrong")
        for setting, want in (("allow=10.0.0.0/33", "10.0.0.0/33"),
                              ("idle_seconds=0", "idle_seconds"),
                              ("nothing=1", "no setting")):
            failed = self.ekiden.cli("ingress", "set", "wrong", "forwarded=true", setting,
                                     check=False)
            self.assertEqual(failed.returncode, 1, failed.stdout)
            self.assertIn(want, failed.stderr)
        shown = json.loads(self.ekiden.cli("ingress", "show", "wrong", "--output", "json"))
        self.assertFalse(shown["forwarded"])
        self.check(web, 200)
