"""journalctl as a child: started, read from without waiting, ended for certain."""

import asyncio
import fcntl
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from probes.aside import aside
from probes.scrub import scrub

PIPE = 1024 * 1024         # bytes that journalctl may be ahead, about 2,000 entries; what an unprivileged process may ask for
GRACE = 2.0                # s for a killed child to be gone
DENIED = "no permission to read the journal: add the user to group systemd-journal"
_SAID = 4096               # bytes of what it complains of that are kept
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMPLAINTS = (b"insufficient permissions", b"not seeing messages", b"Permission denied")


class Child:
    """One running journalctl.

    It outlives nobody: one that follows watches its output, and ends when whoever reads it is gone (so does one that writes). Back-pressure is the
    pipe's: what is not read waits in the journal.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: int, errors: int) -> None:
        self._process, self._output, self._errors = process, output, errors
        self._said = bytearray()
        self._open = True

    @classmethod
    def start(cls, arguments: Sequence[str]) -> Self:
        """journalctl with these arguments. Raises OSError when it cannot be started."""
        command = ["journalctl", "--no-pager", *arguments]
        environment = {"PATH": os.environ.get("PATH", _PATH), "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
        ends: list[int] = []
        try:
            ends += os.pipe()
            ends += os.pipe()
            process = subprocess.Popen(  # noqa: S603 - no shell; in a group of its own: an interrupt from the keyboard is for us to handle
                command, stdin=subprocess.DEVNULL, stdout=ends[1], stderr=ends[3], env=environment, start_new_session=True)
        except BaseException:
            for end in ends:
                os.close(end)
            raise
        os.close(ends[1])
        os.close(ends[3])
        for ours in (ends[0], ends[2]):
            os.set_blocking(ours, False)
        with suppress(OSError):              # the user has many pipes already: a smaller one is slower, no more
            fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, PIPE)
        return cls(process, ends[0], ends[2])

    def read(self, size: int) -> bytes | None:
        """What it has written, at most `size` bytes; None when there is nothing just now, b"" when nothing will come."""
        try:
            return os.read(self._output, size)
        except BlockingIOError:
            return None

    async def wait(self, seconds: float) -> bool:
        """Whether there is something to read, or the end, within so many s."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._output, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._output)
        return True

    def complaint(self) -> str:
        """The last that it said on stderr, for a person; "" when it is silent."""
        if self._open:
            with suppress(BlockingIOError):
                while said := os.read(self._errors, _SAID):
                    self._said += said
                    del self._said[:-_SAID]
        if any(denied in self._said for denied in _COMPLAINTS):
            return DENIED
        text = self._said.decode("utf-8", "replace").strip()
        return scrub(text.splitlines()[-1], limit=200) if text else ""

    def ending(self) -> str:
        """How it ended, for a person. After `end`."""
        code = self._process.returncode
        return self.complaint() or (f"journalctl was ended by signal {-code}" if code and code < 0 else f"journalctl ended with {code}")

    @property
    def failed(self) -> bool:
        """Whether it ended with an error. After `end`."""
        return self._process.returncode not in (0, None)

    async def end(self) -> None:
        """Let nothing of it be left. It only reads and has nothing to tidy up, so it is killed at once.

        That it is gone is waited for in a thread, which goes on when whoever called this is cancelled.
        """
        if not self._open:
            return
        self.complaint()
        self._open = False
        self._process.kill()
        os.close(self._output)
        os.close(self._errors)
        await asyncio.wait([aside(self._process.wait, "end of journalctl")], timeout=GRACE)
