"""A name server that takes signed updates of TXT records (RFC 2136, RFC 8945), over TCP."""

import base64
import json
import secrets
import socketserver
import struct
import threading
import urllib.request

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig


class NameServer:
    """Has one zone; what it is told goes on to `pebble-challtestsrv`, which is asked for it."""

    def __init__(self, zone, manage_port):
        self.zone = dns.name.from_text(zone)
        self.manage_port = manage_port
        self.key_name = "ekiden-test."
        self.secret = base64.b64encode(secrets.token_bytes(32)).decode()
        self.keyring = {dns.name.from_text(self.key_name): dns.tsig.Key(
            self.key_name, self.secret, "hmac-sha256")}
        self.updates, self.refused = 0, 0
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                length, = struct.unpack("!H", self.rfile.read(2))
                answer = server.answer(self.rfile.read(length))
                self.wfile.write(struct.pack("!H", len(answer)) + answer)

        self.tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.tcp.daemon_threads = True
        self.port = self.tcp.server_address[1]
        threading.Thread(target=self.tcp.serve_forever, daemon=True).start()

    def close(self):
        self.tcp.shutdown()
        self.tcp.server_close()

    def answer(self, wire):
        try:
            message = dns.message.from_wire(wire, keyring=self.keyring)
        except (dns.tsig.PeerError, dns.exception.DNSException):
            self.refused += 1
            # Twelve bytes of header: the same identity, refused.
            return wire[:2] + b"\xa8\x05" + bytes(8)
        answer = dns.message.make_response(message)
        if message.opcode() != dns.opcode.UPDATE:
            question = message.question[0]
            if (question.name, question.rdtype) == (self.zone, dns.rdatatype.SOA):
                answer.answer.append(dns.rrset.from_text(
                    self.zone, 60, "IN", "SOA", "ns.invalid. hostmaster.invalid. 1 60 60 60 60"))
        elif not message.had_tsig or message.zone[0].name != self.zone:
            self.refused += 1
            answer.set_rcode(dns.rcode.REFUSED)
        else:
            for records in message.update:
                adds = records.rdclass == dns.rdataclass.IN and not records.deleting
                self.tell("set-txt" if adds else "clear-txt", records)
            self.updates += 1
        return answer.to_wire()

    def tell(self, verb, records):
        for record in records or [None]:
            body = {"host": records.name.to_text()}
            if verb == "set-txt":
                body["value"] = b"".join(record.strings).decode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.manage_port}/{verb}", json.dumps(body).encode())
            urllib.request.urlopen(request, timeout=10).close()
