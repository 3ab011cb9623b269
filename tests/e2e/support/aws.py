"""The `aws` command line, with what `ekiden env` says and nothing else of the host's."""

import json
import os
import subprocess


class Failed(Exception):
    """The command ended with an error."""

    def __init__(self, done):
        super().__init__(f"exit {done.returncode}: {done.stderr}{done.stdout}")
        self.status, self.said = done.returncode, done.stderr.strip()


class Aws:
    """Called with a command's words; answers its JSON, or its text when that was asked for."""

    def __init__(self, ekiden):
        self.ekiden, self.called = ekiden, set()
        exports = ekiden.cli("env")
        pairs = [line.removeprefix("export ").split("=", 1)
                 for line in exports.splitlines() if line.startswith("export ")]
        own = {name: value.strip("'\"") for name, value in pairs}
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(ekiden.base),
                            "AWS_PAGER": "", **own}

    def __call__(self, service, operation, *arguments, **flags):
        words = [word for name, value in flags.items()
                 for word in (f"--{name.replace('_', '-')}",
                              value if isinstance(value, str) else json.dumps(value))]
        self.called.add((service, operation))
        done = subprocess.run(
            ["aws", service, operation, *arguments, *words], env=self.environment, timeout=120,
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(done)
        if "text" in arguments or flags.get("output") == "text":
            return done.stdout.strip()
        return json.loads(done.stdout) if done.stdout.strip() else {}
