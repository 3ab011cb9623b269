"""Certificates: of Ekiden's own authority, of an ACME authority (pebble), and one's own.

pebble is Let's Encrypt's small ACME server for tests; its challenge server is the DNS it asks, which
says that every name is this host.
"""

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import unittest

from support import host
from support.case import EkidenCase
from support.name_server import NameServer
from support.repeat import Repeat
from support.server import Ekiden
from support.wait import until


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def self_signed(directory, name, *names):
    """A key and a certificate for itself; their paths."""
    key, cert = directory / f"{name}.key", directory / f"{name}.pem"
    alternatives = ",".join(f"DNS:{one}" for one in names)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", cert, "-days", "30", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={alternatives}")
    return key, cert


def issued(directory):
    """A root of its own, and a key and certificate of it for this host; the paths of all three."""
    root_key, root = directory / "root.key", directory / "root.pem"
    key, cert, request = (directory / f"acme.{end}" for end in ("key", "pem", "csr"))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", root_key, "-out", root, "-days", "30",
            "-subj", "/CN=root")
    openssl("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    more = directory / "acme.ext"
    more.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", request, "-CA", root, "-CAkey", root_key, "-CAcreateserial",
            "-days", "30", "-extfile", more, "-out", cert)
    return root, key, cert


class Https:
    """A client of one front door that connects anew for each request."""

    def __init__(self, port, authority=None):
        self.port = port
        self.context = ssl.create_default_context(cadata=authority) if authority else (
            ssl._create_unverified_context())

    def connect(self, name):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return self.context.wrap_socket(raw, server_hostname=name)

    def serial(self, name):
        with self.connect(name) as stream:
            der = stream.getpeercert(binary_form=True)
        text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-serial"], input=der,
                              check=True, capture_output=True).stdout.decode()
        return text.strip().partition("=")[2].lower()

    def get(self, name, path="/whoami"):
        connection = http.client.HTTPConnection(name)
        connection.sock = self.connect(name)
        connection.request("GET", path, headers={"Host": name, "Connection": "close"})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body


class Loop(Repeat):
    """Requests one after the other in threads; what failed of them."""

    def __init__(self, ask, threads=4):
        super().__init__(self.once, threads)
        self.ask, self.failed, self.done = ask, [], 0

    def once(self):
        try:
            status, body = self.ask()
            if status != 200:
                self.failed.append((status, body[:200]))
        except OSError as error:
            self.failed.append(repr(error))
        self.done += 1


class Certificates(EkidenCase):
    """Tests that every authority's certificates pass."""

    extra = "[service]\nassume_domains = true\n"

    def domain(self, service, name):
        client = self.ekiden.client()
        client.associate_custom_domain(ServiceArn=service["ServiceArn"], DomainName=name,
                                       EnableWWWSubdomain=False)
        until(f"{name} is active", lambda: self.domains()[name]["Status"] == "active", 90,
              lambda: json.dumps(self.domains()[name]))

    def domains(self):
        listed = json.loads(self.ekiden.cli("domain", "ls", "--output", "json"))
        return {domain["DomainName"]: domain for domain in listed}

    def certificates(self):
        return json.loads(self.ekiden.cli("certificate", "ls", "--output", "json"))

    def certificate(self, name):
        return next((one for one in self.certificates()["Certificates"]
                     if name in one["PresentedFor"]), None)


class OwnAuthority(Certificates):
    label = "certs"

    def setUp(self):
        self.client = Https(self.ekiden.tls_port, self.ekiden.cli("ca"))

    def test_a_service_has_https_of_the_own_authority_at_once(self):
        service = self.running("https")
        status, _ = self.client.get(service["ServiceUrl"])
        self.assertEqual(status, 200)
        with self.assertRaises(ssl.SSLError):
            self.client.get("nobodys.example.com")

    def test_a_domain_moves_under_load_and_loses_no_request(self):
        one, two = self.running("move-1"), self.running("move-2")
        self.domain(one, "moving.example.com")
        seen = set()

        def ask():
            status, body = self.client.get("moving.example.com")
            seen.add(json.loads(body)["service"] if status == 200 else status)
            return status, body
        with Loop(ask) as load:
            for source, target in (("move-1", "move-2"), ("move-2", "move-1")) * 3:
                self.ekiden.cli("domain", "move", source, "moving.example.com", target)
        self.assertEqual(load.failed, [])
        self.assertEqual(seen, {"move-1", "move-2"})
        self.assertEqual(json.loads(self.client.get("moving.example.com")[1])["service"], "move-1")
        self.ekiden.client().disassociate_custom_domain(
            ServiceArn=one["ServiceArn"], DomainName="moving.example.com")

    def test_a_certificate_changes_a_hundred_times_under_load(self):
        service = self.running("change")
        self.domain(service, "change.example.com")
        serials = set()
        anyone = Https(self.ekiden.tls_port)
        with Loop(lambda: anyone.get("change.example.com")) as load:
            for round_ in range(100):
                key, cert = self_signed(self.ekiden.base, f"c{round_ % 2}", "change.example.com")
                self.ekiden.cli("certificate", "import", "--cert", cert, "--key", key)
                serials.add(anyone.serial("change.example.com"))
        self.assertEqual(load.failed, [])
        self.assertGreater(load.done, 100)
        self.assertEqual(len(serials), 100)

    def test_an_edge_that_starts_anew_serves_by_what_it_saved(self):
        service = self.running("saved")
        file = self.ekiden.data / "edge" / "certificates.json"
        until("saved", file.exists)
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        before = self.client.serial(service["ServiceUrl"])
        os.kill(self.ekiden.pid("edge"), 9)
        self.ekiden.wait_serves()
        self.assertEqual(self.client.serial(service["ServiceUrl"]), before)


class Pebble:
    """An ACME authority of its own on this host."""

    challenge = None

    @classmethod
    def setUpClass(cls):
        for program in ("pebble", "pebble-challtestsrv"):
            if shutil.which(program) is None:
                raise unittest.SkipTest(f"not installed: {program}")
        super().setUpClass()

    @classmethod
    def start_ekiden(cls):
        cls.check_host()
        cls.acme_port = host.free_port()
        cls.ekiden = Ekiden(cls.label, cls.prefix, cls.extra)
        cls.addClassCleanup(cls.ekiden.teardown)
        base = cls.ekiden.base
        root, cls.key, cls.cert = issued(base)
        root.chmod(0o644)
        acme = (f'[acme]\ndirectory = "https://127.0.0.1:{cls.acme_port}/dir"\n'
                f'root = "{root}"\nchallenge = "{cls.challenge}"\n')
        cls.dns_port, cls.manage_port = host.free_port(), host.free_port()
        cls.ekiden.write_config(cls.extra + acme + cls.more_settings())
        cls.pebble = None
        cls.dns = subprocess.Popen(
            ["pebble-challtestsrv", "-dns01", f"127.0.0.1:{cls.dns_port}", "-management",
             f"127.0.0.1:{cls.manage_port}", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
             "-http01", "", "-https01", "", "-tlsalpn01", ""],
            stdout=open(base / "dns.log", "wb"), stderr=subprocess.STDOUT)
        cls.addClassCleanup(cls.end, cls.dns)
        cls.addClassCleanup(lambda: cls.pebble and cls.end(cls.pebble))
        until("the DNS listens", lambda: cls.listens(cls.manage_port), 20,
              (base / "dns.log").read_text)
        cls.start_pebble()
        cls.ekiden.start()

    @classmethod
    def more_settings(cls):
        """What the challenge needs to be configured."""
        return ""

    @classmethod
    def start_pebble(cls):
        base = cls.ekiden.base
        config = base / "pebble.json"
        config.write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{cls.acme_port}",
            "managementListenAddress": f"127.0.0.1:{host.free_port()}",
            "certificate": str(cls.cert), "privateKey": str(cls.key),
            "httpPort": cls.ekiden.edge_port, "tlsPort": cls.ekiden.tls_port,
            "ocspResponderURL": "", "externalAccountBindingRequired": False}}))
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
        cls.pebble = subprocess.Popen(
            ["pebble", "-config", config, "-dnsserver", f"127.0.0.1:{cls.dns_port}"],
            env=environment, stdout=open(base / "pebble.log", "ab"), stderr=subprocess.STDOUT)
        until("pebble listens", lambda: cls.listens(cls.acme_port), 20,
              (base / "pebble.log").read_text)

    @staticmethod
    def listens(port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    @classmethod
    def end(cls, process):
        process.kill()
        process.wait()

    def test_issue_renew_and_revoke(self):
        service = self.running(f"acme-{self.challenge[:3]}")
        name = f"shop-{self.challenge[:3]}.example.com"
        self.domain(service, name)
        client = Https(self.ekiden.tls_port)
        first = self.certificate(name)
        self.assertEqual(first["Source"], "ACME")
        self.assertEqual(int(client.serial(name), 16), int(first["Serial"], 16))
        self.assertEqual(client.get(name)[0], 200)

        self.ekiden.cli("certificate", "renew", name)
        until("renewed", lambda: self.certificate(name)["CertificateId"] != first["CertificateId"],
              60, lambda: json.dumps(self.certificates()))
        second = self.certificate(name)
        until("presented", lambda: int(client.serial(name), 16) == int(second["Serial"], 16))

        self.ekiden.cli("certificate", "revoke", name)
        until("got anew", lambda: self.certificate(name)["CertificateId"] not in
              (first["CertificateId"], second["CertificateId"]), 60,
              lambda: json.dumps(self.certificates()))

        # Nobody to renew with: what is there is served on, and the reason is shown.
        third = self.certificate(name)
        self.end(self.pebble)
        self.ekiden.cli("certificate", "renew", name)
        until("the failure shows", lambda: self.certificate(name).get("Failure"), 60)
        self.assertEqual(self.certificate(name)["CertificateId"], third["CertificateId"])
        self.assertEqual(client.get(name)[0], 200)

        # It is back, and has forgotten every account.
        self.start_pebble()
        self.ekiden.cli("certificate", "renew", name)
        until("renewed with another account",
              lambda: self.certificate(name)["CertificateId"] != third["CertificateId"], 60,
              lambda: json.dumps(self.certificates()))
        self.assertNotIn("Failure", self.certificate(name))

    def test_wildcards(self):
        """They need the DNS, and say so."""
        service = self.running(f"wild-{self.challenge[:3]}")
        name = f"*.{self.challenge[:3]}.example.com"
        self.ekiden.client().associate_custom_domain(
            ServiceArn=service["ServiceArn"], DomainName=name, EnableWWWSubdomain=False)
        until("it says why", lambda: "dns-01" in self.domains()[name].get("WaitingFor", ""), 30,
              lambda: json.dumps(self.domains()[name]))


class Http01(Pebble, Certificates):
    label, challenge = "http1", "http-01"


class TlsAlpn01(Pebble, Certificates):
    label, challenge = "alpn1", "tls-alpn-01"


class Dns01(Pebble, Certificates):
    label, challenge = "dns01", "dns-01"

    @classmethod
    def more_settings(cls):
        cls.name_server = NameServer("example.com.", cls.manage_port)
        cls.addClassCleanup(cls.name_server.close)
        key = cls.ekiden.base / "dns.key"
        key.write_text(cls.name_server.secret)
        key.chmod(0o644)
        return (f'dns_server = "127.0.0.1:{cls.name_server.port}"\n'
                f'dns_key_name = "{cls.name_server.key_name}"\ndns_key_file = "{key}"\n')

    def test_wildcards(self):
        service = self.running("wild-dns")
        self.domain(service, "*.wild.example.com")
        certificate = self.certificate("*.wild.example.com")
        self.assertEqual(certificate["Source"], "ACME")
        client = Https(self.ekiden.tls_port)
        self.assertEqual(int(client.serial("any.wild.example.com"), 16),
                         int(certificate["Serial"], 16))
        self.assertEqual(client.get("any.wild.example.com")[0], 200)
        # A record set, and taken away again.
        self.assertGreaterEqual(self.name_server.updates, 2)
        self.assertEqual(self.name_server.refused, 0)
