"""What tests of real processes share: a port of their own, patience, and whether another is still there."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PORTS = range(15_000, 32_000)
"""Below those that the kernel gives to whoever connects: no other test's connection takes one between this answer and its use."""


def free_port() -> int:
    """A port on loopback that nobody listens on just now."""
    while True:
        with socket.socket() as taken, suppress(OSError):
            taken.bind(("127.0.0.1", random.SystemRandom().choice(PORTS)))
            return int(taken.getsockname()[1])


def gone(pid: int) -> bool:
    """Ended; what another parent has not buried yet counts too. In one look: a process may end between two."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2][0] == "Z"
    except OSError:
        return True


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `true` gives as soon as it gives something; what other processes do in their own time."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)
    return found
