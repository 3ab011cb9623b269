"""What is read of failures, in the three places where people look, beside the table in `docs/failures.md`.

With EKIDEN_E2E_FAILURES=write the table is written from what was read; else what was read must be in it.
"""

import atexit
import os
import re

from . import settings

PATH = settings.ROOT / "docs/failures.md"
WRITES = os.environ.get("EKIDEN_E2E_FAILURES") == "write"

# The tables, between marks of their names.
TITLES = {
    "readings": "| What is wrong | `ekiden describe` | The API | The service's log |\n|---|---|---|---|",
    "host": "| What is wrong | Where it is read | What is read |\n|---|---|---|",
}

# A next step is told to do.
STEPS = re.compile(r"\b(check|build|push|set|wait|make|import|deploy|give|see|look|free|write|have the|mend|run|stop it|must run|another takes)\b", re.I)

written = {table: {} for table in TITLES}


def general(text):
    """Without what is different on each machine and in each run."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"(127\.0\.0\.1|localhost):(?!1/|1[^0-9])\d{4,5}", "registry.example.com", text)
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "…", text)
    text = re.sub(r"/(var/)?tmp/[\w.-]+", "", text)
    # How a connection is found to be closed is the kernel's affair.
    text = re.sub(r"(error reading a body from connection): [^;]+", r"\1: …", text)
    text = re.sub(r"\b(process|pid) \d+", r"\1 …", text)
    return re.sub(r"\s+", " ", text).strip()


def cell(text):
    return general(text).replace("|", "\\|").replace("<", "&lt;")


def note(case, item, describe, api, log):
    """An item, and what is read of it; None where that place has nothing to say of it."""
    for text in filter(None, (describe, api, log)):
        case.assertRegex(text, STEPS, "no next step is told")
        case.assertRegex(general(text), r"\S[.;:] \w", "a cause and a next step are two clauses")
    keep(case, "readings", item, [cell(text) if text else "–" for text in (describe, api, log)])


def note_host(case, item, where, text):
    """What whoever runs the host reads there."""
    case.assertRegex(text, STEPS, "no next step is told")
    keep(case, "host", item, [where, cell(text)])


def keep(case, table, item, cells):
    row = f"| {item} | {' | '.join(cells)} |"
    if WRITES:
        written[table][item] = row
    else:
        case.assertIn(row, PATH.read_text(), "docs/failures.md is of something else; "
                      "EKIDEN_E2E_FAILURES=write writes it")


@atexit.register
def write():
    text = PATH.read_text()
    for table, new in written.items():
        begin, end = f"<!-- {table} -->", f"<!-- end of {table} -->"
        head, _, rest = text.partition(begin)
        old, _, foot = rest.partition(end)
        rows = {row.split(" | ")[0].removeprefix("| "): row for row in old.splitlines() if row.startswith("| ")}
        rows.pop("What is wrong", None)
        rows.update(new)
        lines = [begin, TITLES[table], *(rows[item] for item in sorted(rows)), end]
        text = head + "\n".join(lines) + foot
    if any(written.values()):
        PATH.write_text(text)
