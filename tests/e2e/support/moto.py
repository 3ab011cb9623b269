"""moto's server: the AWS services that Ekiden does not answer for, with nothing behind them."""

import subprocess
import sys
import urllib.error
import urllib.request

from . import host
from .wait import until


class Moto:
    def __init__(self, log):
        self.endpoint = f"http://127.0.0.1:{host.free_port()}"
        port = self.endpoint.rpartition(":")[2]
        self.log = open(log, "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until("answering: moto", self.answers)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
