"""Waiting for a state, never for a time."""

import time

# A poll, not a measure: short against everything that is waited for.
PAUSE_SECONDS = 0.02


class Late(AssertionError):
    """A state did not come in time."""


def until(what, look, seconds=60, debug=lambda: ""):
    """Calls `look` until it answers something true, and answers that.

    `what` names the state for the message of the failure; `debug` is asked for what helps.
    """
    deadline = time.monotonic() + seconds
    while True:
        last = look()
        if last:
            return last
        if time.monotonic() > deadline:
            raise Late(f"not {what} within {seconds} s; last seen: {last!r}\n{debug()}")
        time.sleep(PAUSE_SECONDS)
