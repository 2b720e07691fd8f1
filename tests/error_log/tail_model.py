"""A log that is written to, rotated and spoilt at random, and what of it must have been read in the end."""

import gzip
import os
import shutil
import time
from pathlib import Path

TICK = 0.006           # s in which times of files do not tell before from after; nobody rotates that often


class ModelLog:
    """A log and its rotated files. `must` are lines that nothing excuses; `may` are those that were destroyed, perhaps before they were read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.log"
        self.path.touch()
        self.must: set[bytes] = set()
        self.may: set[bytes] = set()
        self._number = 0
        self._half = b""
        self._copied: set[bytes] | None = None

    def append(self, lines: int) -> None:
        """Write whole lines, the first of which may be the rest of one."""
        text = b""
        for _ in range(lines):
            self._number += 1
            line = b"%06d a line of the log %s" % (self._number, b"." * 60)
            (self.may if self._half else self.must).add(self._half + line)
            self._half = b""
            text += line + b"\n"
        self._write(text)

    def half(self) -> None:
        """Write a line without its end."""
        if not self._half:
            self._number += 1
            self._half = b"%06d half a line, %s" % (self._number, b"." * 60)
            self.may.add(self._half)
            self._write(self._half)

    def rename(self, kind: str) -> None:
        """Rotate, as `create`, or later or never as `nocreate`."""
        self._finish_copy()
        self._shift()
        if self.path.exists():
            self.path.rename(f"{self.path}.1")
            self._half = b""
        if kind == "create":
            self.path.touch()
        time.sleep(TICK)

    def copy(self) -> None:
        """The first half of `copytruncate`. Of a copy shorter than what the log is known by nobody could tell later what it was."""
        if self.path.exists() and self._copied is None:
            if self.path.stat().st_size < 1100:
                self.append(14)
            self._shift()
            shutil.copyfile(self.path, f"{self.path}.1")
            self._copied = set(self.must)
            time.sleep(TICK)

    def truncate(self) -> None:
        """The other half; without the first one, all that was not read yet is lost."""
        if not self.path.exists():
            return
        kept = self._copied if self._copied is not None else self.must - self._content()
        self.may |= self.must - kept
        self.must &= kept
        os.truncate(self.path, 0)
        self._half, self._copied = b"", None
        time.sleep(TICK)

    def compress(self, number: int) -> None:
        """Compress a rotated file, as logrotate does it."""
        old, new = Path(f"{self.path}.{number}"), Path(f"{self.path}.{number}.gz")
        if old.exists() and not (self._copied is not None and number == 1):
            times = old.stat()
            new.write_bytes(gzip.compress(old.read_bytes()))
            os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
            old.unlink()

    def replace(self) -> None:
        """Delete the log, and begin it anew."""
        self._finish_copy()
        if self.path.exists():
            lost = self.must & self._content()
            self.may |= lost
            self.must -= lost
            self.path.unlink()
        self.path.touch()
        self._half, self._copied = b"", None
        time.sleep(TICK)

    def _finish_copy(self) -> None:
        if self._copied is not None:                    # what rotates logs does one after the other
            self.truncate()

    def _content(self) -> set[bytes]:
        return set(self.path.read_bytes().splitlines())

    def _write(self, text: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(text)

    def _shift(self) -> None:
        for number in range(40, 0, -1):
            for ending in ("", ".gz"):
                old = Path(f"{self.path}.{number}{ending}")
                if old.exists():
                    old.rename(f"{self.path}.{number + 1}{ending}")
