"""What is read of failures, in the three places where people look, beside the table in `docs/failures.md`.

With EKIDEN_E2E_FAILURES=write the table is written from what was read; else what was read must be in it.
"""

import atexit
import os
import re

from . import settings

PATH = settings.ROOT / "docs/failures.md"
BEGIN, END = "<!-- readings -->", "<!-- end of readings -->"
WRITES = os.environ.get("EKIDEN_E2E_FAILURES") == "write"

# A next step is told to do.
STEPS = re.compile(r"\b(check|build|push|set|wait|make|import|deploy|give|see|look|free|write|have the|mend|must run|another takes)\b", re.I)

written = {}


def general(text):
    """Without what is different on each machine and in each run."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"(127\.0\.0\.1|localhost):(?!1/|1[^0-9])\d{4,5}", "registry.example.com", text)
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "…", text)
    text = re.sub(r"/(var/)?tmp/[\w.-]+", "", text)
    text = re.sub(r"\b(process|pid) \d+", r"\1 …", text)
    return re.sub(r"\s+", " ", text).strip()


def cell(text):
    return general(text).replace("|", "\\|").replace("<", "&lt;")


def note(case, item, describe, api, log):
    """An item, and what is read of it; None where that place has nothing to say of it."""
    for text in filter(None, (describe, api, log)):
        case.assertRegex(text, STEPS, "no next step is told")
        case.assertRegex(general(text), r"\S[.;:] \w", "a cause and a next step are two clauses")
    row = f"| {item} | {' | '.join(cell(text) if text else '–' for text in (describe, api, log))} |"
    if WRITES:
        written[item] = row
    else:
        case.assertIn(row, PATH.read_text(), "docs/failures.md is of something else; "
                      "EKIDEN_E2E_FAILURES=write writes it")


@atexit.register
def write():
    if not written:
        return
    text = PATH.read_text()
    head, _, rest = text.partition(BEGIN)
    table, _, foot = rest.partition(END)
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table.splitlines() if row.startswith("| ")}
    title = "| What is wrong | `ekiden describe` | The API | The service's log |\n|---|---|---|---|"
    rows.pop("What is wrong", None)
    rows.update(written)
    PATH.write_text(f"{head}{BEGIN}\n{title}\n" + "\n".join(rows[item] for item in sorted(rows)) + f"\n{END}{foot}")
