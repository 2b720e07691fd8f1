"""What tests of real processes share: a port of their own, patience, whether another is still there, and what the machine kept from them."""

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

PORTS = range(15_000, 32_000)
"""Below those that the kernel gives to whoever connects: no other test's connection takes one between this answer and its use."""


def free_port() -> int:
    """A port on loopback that nobody listens on just now."""
    while True:
        with socket.socket() as taken, contextlib.suppress(OSError):
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


class Withheld:
    """For how long this thread, or the main thread of another process, was kept from the processor: in s since it began, by the kernel's word.

    A bound on elapsed time holds for the product; what other processes on the machine took meanwhile is none of its doing. Take the difference of
    two calls off what was measured between them.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._files: list[int] = []
        with contextlib.suppress(OSError):          # a kernel without it: nothing is forgiven
            self._files = [os.open(f"/proc/{pid or 'thread-self'}/schedstat", os.O_RDONLY), os.open("/proc/stat", os.O_RDONLY)]

    def __call__(self) -> float:
        if not self._files:
            return 0.0
        waited = int(os.pread(self._files[0], 100, 0).split()[1]) / 1e9
        stolen = int(os.pread(self._files[1], 200, 0).split()[8]) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)
        return waited + stolen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Read no more."""
        for number in self._files:
            os.close(number)
        self._files = []
