"""What tests of real processes share: a port of their own, and patience."""

import socket
import time
from collections.abc import Callable
from typing import Any


def free_port() -> int:
    """A port on loopback that nobody listens on just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `true` gives as soon as it gives something; what other processes do in their own time."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)
    return found
