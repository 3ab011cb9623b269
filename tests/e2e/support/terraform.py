"""Terraform with the real AWS provider, found on this host: nothing is fetched."""

import functools
import json
import os
import pathlib
import shutil
import subprocess

from . import host

PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0/linux_amd64"
# Where a mirror of providers is looked for before the whole disk is.
PLACES = ("/opt/tf-plugins", "/usr/share/terraform", "/usr/local/share/terraform/plugins",
          "~/.terraform.d/plugins")
# Directories that are looked into at most; a disk may have millions.
DIRECTORIES_MAX = 300_000
ELSEWHERE = {"/proc", "/sys", "/dev", "/run"}
# What Terraform keeps of a run, and takes away with it.
WORKING = ".terraform"
RUN_SECONDS = 600


@functools.cache
def mirror():
    """The directory that has the provider in the layout of a filesystem mirror, or None."""
    named = [os.environ["TF_PLUGIN_MIRROR"]] if "TF_PLUGIN_MIRROR" in os.environ else []
    for place in (*named, *PLACES):
        directory = pathlib.Path(place).expanduser()
        if (directory / PROVIDER).is_dir():
            return directory
    return walk()


def walk():
    tail = pathlib.PurePath(PROVIDER)
    for count, (directory, names, _) in enumerate(os.walk("/")):
        if directory.endswith(str(tail.parent)) and tail.name in names:
            return pathlib.Path(directory).parents[len(tail.parts) - 2]
        if count == DIRECTORIES_MAX:
            return None
        names[:] = [name for name in names
                    if name != WORKING and os.path.join(directory, name) not in ELSEWHERE]
    return None


def lacking():
    """What is not here, in words; empty when all is."""
    found = []
    if host.missing("terraform"):
        found.append("terraform")
    if mirror() is None:
        found.append(f"the provider ({PROVIDER} below $TF_PLUGIN_MIRROR, {', '.join(PLACES)}"
                     " or any other directory)")
    return found


class Terraform:
    """One configuration, copied to a directory of its own, with its state."""

    def __init__(self, source, directory, environment):
        shutil.copytree(source, directory)
        settings = directory / "cli.tfrc"
        settings.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror()}"\n  }}\n}}\n')
        self.directory = directory
        self.environment = environment | {
            "TF_CLI_CONFIG_FILE": str(settings), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1",
            "TF_INPUT": "0", "TF_CLI_ARGS": "-no-color",
        }
        self.run("init", "-backend=false")

    def variables(self, **values):
        """Sets the configuration's variables; those that are not named stay as they were."""
        path = self.directory / "terraform.tfvars.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(old | values))

    def run(self, *arguments, codes=(0,)):
        done = subprocess.run(
            ["terraform", *arguments], cwd=self.directory, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=RUN_SECONDS)
        if done.returncode not in codes:
            raise AssertionError(f"terraform {' '.join(arguments)}: exit {done.returncode}\n"
                                 f"{done.stdout[-12000:]}")
        return done.stdout

    def apply(self, *arguments):
        """Applies without asking; the last words say how many were added, changed, destroyed."""
        return self.run("apply", "-auto-approve", *arguments)

    def changes(self):
        """What a plan would change, in Terraform's words; nothing when all is as configured."""
        said = self.run("plan", "-detailed-exitcode", codes=(0, 2))
        return "" if "No changes." in said else said

    def destroy(self, *arguments):
        return self.run("destroy", "-auto-approve", *arguments)

    def outputs(self):
        found = json.loads(self.run("output", "-json"))
        return {name: output["value"] for name, output in found.items()}

    def state(self, file="terraform.tfstate"):
        """The attributes of every resource, by its address."""
        found = json.loads(self.run("show", "-json", file)).get("values", {})
        resources = found.get("root_module", {}).get("resources", [])
        return {resource["address"]: resource["values"] for resource in resources
                if resource["mode"] == "managed"}
