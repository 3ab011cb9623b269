"""How much to do and where things are; `run` sets the variables."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[3]

BINARY = pathlib.Path(os.environ.get("EKIDEN_BIN", ROOT / "target/debug/ekiden"))
LOAD = pathlib.Path(os.environ.get("EKIDEN_LOAD_BIN", ROOT / "target/debug/load"))

# The edge by itself.
EDGE = pathlib.Path(
    os.environ.get("EKIDEN_EDGE_BIN", ROOT / "target/debug/examples/standalone"))

# Base images and built applications, kept from run to run.
CACHE = pathlib.Path(
    os.environ.get("EKIDEN_E2E_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "ekiden-e2e"
)

REGION = "us-east-1"


def count(name, default):
    """How often a suite repeats its main act; `run --full` sets the long counts."""
    return int(os.environ.get(f"EKIDEN_E2E_{name}", default))


DEPLOYMENTS = count("DEPLOYMENTS", 4)
KILLS = count("KILLS", 2)
CYCLES = count("CYCLES", 20)
RATE = count("RATE", 300)
LOG_KILLS = count("LOG_KILLS", 10)
LOG_SEED = count("LOG_SEED", 0)
STRICT_CASES = count("STRICT_CASES", 3000)
STRICT_SEED = count("STRICT_SEED", 1)
