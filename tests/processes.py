"""What tests of real processes share: a port of their own, patience, whether another is still there, and what the machine kept from them."""

import contextlib
import os
import random
import socket
import subprocess
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


class Stopwatch:
    """Seconds since it was begun, less what the machine withheld meanwhile from this thread and from the others that the work passes through.

    These are named by the number of a process (its main thread) or of a thread of our own (`native_id`), and must last as long as this is read.
    """

    def __init__(self, *others: int | None) -> None:
        self._withheld = [Withheld(), *(Withheld(other) for other in others if other)]
        self.again()

    def again(self) -> None:
        """Begin anew."""
        self._before, self._begun = sum(one() for one in self._withheld), time.monotonic()

    @property
    def kept(self) -> float:
        """What was withheld from all of them together, in s."""
        return sum(one() for one in self._withheld) - self._before

    def __call__(self) -> float:
        return time.monotonic() - self._begun - self.kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._withheld:
            one.close()


class WithheldFromAll:
    """What was withheld from all threads of a process together, for work that passes from one to the next: the others sleep meanwhile.

    Where several wait for the processor at once each counts, so that more is forgiven than one of them lost: never where the machine is idle.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._threads, self._seen = Path(f"/proc/{pid or 'self'}/task"), dict[str, int]()

    def __call__(self) -> float:
        stolen = 0.0
        with contextlib.suppress(OSError):          # a kernel without it: nothing is forgiven
            for thread in self._threads.iterdir():
                with contextlib.suppress(OSError):  # it has ended: what was withheld from it stays
                    self._seen[thread.name] = int((thread / "schedstat").read_text().split()[1])
            stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)
        return sum(self._seen.values()) / 1e9 + stolen


def ending(process: subprocess.Popen[Any], patience: float) -> float:
    """Seconds from now until a child has ended, less what was withheld from it meanwhile. It is still to be waited for.

    It counts when it was last seen running, so that a look that comes late is not its doing.
    """
    withheld, begun = WithheldFromAll(process.pid), time.monotonic()
    before, seen, held, look = withheld(), begun, 0.0, begun
    while not gone(process.pid):
        assert look < begun + patience, f"{process.args} did not end within {patience} s"
        seen, held = look, withheld() - before
        time.sleep(0.02)
        look = time.monotonic()
    return seen - begun - held
