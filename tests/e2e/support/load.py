"""Steady load beside a test, and what became of it."""

import json
import signal
import subprocess
import tempfile

from . import settings


class Load:
    """A context: load begins with it; `end` stops it and answers the summary."""

    def __init__(self, ekiden, *services, rate=None, large=4, fresh=30):
        self.errors = tempfile.TemporaryFile("w+")
        hosts = [word for service in services for word in ("--host", service["ServiceUrl"])]
        self.process = subprocess.Popen(
            [settings.LOAD, "--target", f"127.0.0.1:{ekiden.edge_port}", *hosts,
             "--rate", str(rate or settings.RATE), "--large", str(large), "--fresh", str(fresh)],
            stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=120)
        if not output:
            self.errors.seek(0)
            raise AssertionError(f"the load ended with {self.process.returncode}: "
                                 f"{self.errors.read()[-2000:]}")
        return json.loads(output)


def figures(summary):
    """One line for the log of a run."""
    latency = summary["latency_ms"].get("small", {})
    return (f"{summary['sent']} requests in {summary['seconds']:.0f} s, {summary['failed']} failed "
            f"{summary['by_failure']}, small p50 {latency.get('p50')} ms, p99 {latency.get('p99')} ms, "
            f"max {latency.get('max')} ms, {len(summary['by_instance'])} instances answered")


def failures_text(summary, most=10):
    return "\n".join(json.dumps(failure) for failure in summary["failures"][:most])
