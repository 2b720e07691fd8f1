"""The worker process as the keeper holds it: started, spoken to, ended for certain with all that it started."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Self

from probes.aside import aside
from probes.checkout import frames, processes
from probes.checkout.talk import greet
from probes.scrub import scrub

GONE = 4.0                 # s for a killed worker to be gone, with all that it started
_SAID = 4096               # bytes of its last words that are read
_PREFIX = "tillwatch-browser-"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "FONTCONFIG_PATH", "FONTCONFIG_FILE",
           "CHROME_DEVEL_SANDBOX", "PLAYWRIGHT_BROWSERS_PATH", "PLAYWRIGHT_NODEJS_PATH")


class Child:
    """One worker. `runs` and `memory` are counted by the keeper."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, errors: BinaryIO,
                 reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.runs, self.memory, self.born = 0, 0, monotonic()
        self._process, self._directory, self._errors = process, directory, errors
        self._root = processes.look(process.pid) or processes.Process(process.pid, 0, process.pid, process.pid, "R", -1)
        self._ended: asyncio.Future[int] | None = None
        self._said = ""

    @classmethod
    async def start(cls, command: Sequence[str], most_memory: int) -> Self:
        """A worker that is given the number of its end of the socket, and how much memory it may take. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:                                       # nothing is waited for from here on: who is cancelled then has nothing to end
                directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
                process, errors = _start([*command, str(theirs.fileno()), str(most_memory)], directory, theirs.fileno())
            except OSError:
                writer.transport.abort()
                raise
        return cls(process, directory, errors, reader, writer)

    async def greeted(self) -> None:
        """It has said that it is there. Raises FrameError and OSError; whoever waits sets the deadline."""
        greet(await frames.read(self.reader))

    async def still(self) -> bool:
        """Whether it, or a part of the browser, was told to stand still; or is gone."""
        return await aside(lambda: processes.stopped(self._root), "look at the browser")

    def last_words(self) -> str:
        """How it ended, for a person. After `end`, which kills one that has not ended by itself."""
        return self._said

    async def end(self) -> int:
        """Let nothing of it be left; how many processes are, after some s. It goes on when whoever called this is cancelled."""
        if self._ended is None:
            self.writer.transport.abort()              # by which it knows, and ends what is below it
            self._ended = aside(self._end, "end of a browser worker")
        return await asyncio.shield(self._ended)

    def _end(self) -> int:
        marker = f"TMPDIR={self._directory}"
        left = processes.end(self._root, marker, GONE)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self._said = self._read_words()
        for _ in range(5):                             # what was killed may still have made a file
            shutil.rmtree(self._directory, ignore_errors=True)
            if not self._directory.exists():
                break
            time.sleep(0.05)
        return len(left)

    def _read_words(self) -> str:
        code = self._process.returncode
        with self._errors:
            self._errors.seek(max(0, os.fstat(self._errors.fileno()).st_size - _SAID))
            if lines := self._errors.read(_SAID).decode("utf-8", "replace").strip().splitlines():
                return scrub(lines[-1], limit=200)
        return f"it was ended by signal {-code}" if code and code < 0 else f"it ended with {code}" if code else ""


def _start(command: Sequence[str], directory: Path, number: int) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """The process, and what it writes to stderr: a file without a name, for it removes its folder itself."""
    try:
        errors = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed when it has ended
        try:
            return subprocess.Popen(  # noqa: S603 - no shell; in a session of its own, by which all that it starts is found
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=_environment(directory), cwd=directory,
                start_new_session=True, pass_fds=[number]), errors
        except OSError:
            errors.close()
            raise
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _environment(directory: Path) -> dict[str, str]:
    """Nothing of the daemon's secrets. Its home is its own, removed with it: browsers write there too."""
    home = Path(os.environ.get("HOME") or "/nonexistent")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    own = {
        "HOME": str(directory), "TMPDIR": str(directory), "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "PATH": _PATH, "PLAYWRIGHT_BROWSERS_PATH": str(cache / "ms-playwright"),
    }
    if "DISPLAY" in os.environ:
        own["XAUTHORITY"] = os.environ.get("XAUTHORITY", str(home / ".Xauthority"))
    return own | {name: os.environ[name] for name in _PASSED if name in os.environ}
