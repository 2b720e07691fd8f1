"""A real systemd-journald of our own, and journals written by systemd-journal-remote: what the tests of the journal read."""

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from processes import until

from probes.error_log.journal import Batch, Cursor, Journal

ROOT = Path(__file__).resolve().parents[2]
JOURNALD, REMOTE = Path("/lib/systemd/systemd-journald"), Path("/lib/systemd/systemd-journal-remote")
CONF = """[Journal]
Storage=volatile
RateLimitIntervalSec=0
RuntimeMaxUse=256M
RuntimeMaxFileSize=16M
ForwardToSyslog=no
ReadKMsg=no
Audit=no
"""
# Its mounts are seen by nobody else. /run/log is where a volatile journal is kept.
START = 'mount --make-rprivate / && mount --bind "$1/run" /run/systemd && mount --bind "$1/log" /run/log && exec "$2"'


class CannotLogError(Exception):
    """No journald can be run here; the text says why."""


class Daemon:
    """A journald in mounts of its own. `journal` is the folder that it writes to."""

    def __init__(self) -> None:
        if not JOURNALD.exists() or not shutil.which("journalctl"):
            raise CannotLogError("there is no systemd-journald (Debian: systemd)")
        if os.geteuid() != 0:
            raise CannotLogError("this needs root")
        self._folder = Path(tempfile.mkdtemp(prefix="jd", dir="/tmp"))      # short: a socket's path has at most 107 characters
        self.journal = self._folder / "log/journal"
        Path("/run/systemd").mkdir(exist_ok=True)
        Path("/run/log").mkdir(exist_ok=True)
        (self._folder / "run/journald.conf.d").mkdir(parents=True)
        (self._folder / "run/journal").mkdir()
        self.journal.mkdir(parents=True)
        (self._folder / "run/journald.conf.d/test.conf").write_text(CONF)
        command = ["unshare", "--mount", "sh", "-c", START, "sh", str(self._folder), str(JOURNALD)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._started()
        except BaseException:
            self.stop()
            raise

    def _started(self) -> None:
        until(lambda: list(self.journal.glob("*/system.journal")) or self._process.poll() is not None, 30, "journald's start")
        if self._process.poll() is not None:
            assert self._process.stderr
            raise CannotLogError(f"journald does not run here: {self._process.stderr.read().decode(errors='replace').strip()[-300:]}")
        self._socket.connect(str(self._folder / "run/journal/socket"))

    def say(self, message: str | bytes, identifier: str = "shop", priority: int = 6) -> None:
        """Log an entry, as programs do with sd_journal_send(3)."""
        text = message.encode() if isinstance(message, str) else message
        entry = f"SYSLOG_IDENTIFIER={identifier}\nPRIORITY={priority}\nMESSAGE\n".encode() + struct.pack("<Q", len(text)) + text + b"\n"
        self._socket.send(entry)

    def print(self, lines: str, identifier: str = "shop") -> None:
        """Write lines to stdout, as a service does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.connect(str(self._folder / "run/journal/stdout"))
            stream.sendall(f"{identifier}\n\n6\n0\n0\n0\n0\n".encode())
            time.sleep(0.05)                        # the header is read alone, so that all lines are read at once
            stream.sendall(lines.encode())

    def control(self, *arguments: str) -> None:
        """journalctl inside: --sync, --rotate, --vacuum-files=1."""
        command = ["nsenter", f"--target={self._process.pid}", "--mount", "journalctl", *arguments]
        subprocess.run(command, capture_output=True, check=True, timeout=60)

    def inside(self, *command: str) -> str:
        """What a program prints for which this journal is that of its host."""
        entered = ["nsenter", f"--target={self._process.pid}", "--mount", f"--wdns={ROOT}", *command]
        return subprocess.run(entered, capture_output=True, text=True, check=True, timeout=60).stdout

    def stop(self) -> None:
        self._socket.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
        shutil.rmtree(self._folder)


async def gathered(journal: Journal, cursor: Cursor, now: Callable[[], float], count: int) -> Batch:
    """So many entries, which journald and journalctl give in their own time, as one batch; none may follow them."""
    end, batches = time.monotonic() + 30, list[Batch]()
    while (found := sum(len(batch.entries) for batch in batches)) < count or not batches or batches[-1].entries:
        assert time.monotonic() < end, f"only {found} entries come"
        batches.append(await journal.read(cursor, now(), 30))
        cursor = batches[-1].cursor
        await asyncio.sleep(0.01)
    assert found == count
    return Batch(tuple(one for batch in batches for one in batch.entries), cursor, gap=sum(batch.gap for batch in batches),
                 problem="".join(batch.problem for batch in batches), warning="".join(batch.warning for batch in batches))


BOOT, MACHINE = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


def entry(message: str | bytes, at: float, **fields: str) -> dict[str, str | bytes]:
    """An entry logged at Unix time `at`."""
    micros = round(at * 1e6)
    return {"__REALTIME_TIMESTAMP": str(micros), "__MONOTONIC_TIMESTAMP": str(micros % 10**12), "_BOOT_ID": BOOT, "_MACHINE_ID": MACHINE,
            "PRIORITY": "6", "MESSAGE": message, **fields}


def write(file: Path, entries: Iterable[Mapping[str, str | bytes]]) -> None:
    """A journal file with these entries; appended to when it is there. Raises FileNotFoundError without systemd-journal-remote."""
    export = bytearray()
    for fields in entries:
        for name, value in fields.items():
            data = value.encode() if isinstance(value, str) else value
            export += name.encode() + (b"\n" + struct.pack("<Q", len(data)) if b"\n" in data or not data.isascii() else b"=") + data + b"\n"
        export += b"\n"
    file.parent.mkdir(exist_ok=True)
    command = [str(REMOTE), "--split-mode=none", f"--output={file}", "-"]
    subprocess.run(command, input=export, capture_output=True, check=True, timeout=60)
