"""Space set aside for the day on which the disk is full: given up then, so that the store goes on for a while."""

import os
import time
from contextlib import suppress
from pathlib import Path

from monitor.store.limits import Limits

SHARE = 0.05            # of what is free: on a small file system the cure must not be the illness
LEAST = 1 << 20         # bytes; less would not carry the store far
AMPLE = 4               # set aside again when so many times what was given up are free: not at every ebb


class Ballast:
    """Belongs to the writer thread; `present` may be read by anyone."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._path, self._limits = folder / "ballast", limits
        self._released = 0                           # bytes that were given up
        self._next = 0.0                             # monotonic s
        self.present = False

    def start(self) -> None:
        """Take over what an earlier run set aside, or set it aside now."""
        self.present = self._path.exists()
        self.tend()

    def release(self) -> bool:
        """Give the space back; whether there was any."""
        if not self.present:
            return False
        self.present = False
        self._next = time.monotonic() + self._limits.ballast_wait
        try:
            self._released = self._path.stat().st_size
            self._path.unlink()
        except OSError:                              # gone, or read-only by now
            return False
        return True

    def tend(self) -> None:
        """Set it aside when it is not, and there is ample space; looks at most once in a while."""
        if not self.present and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._limits.ballast_wait
            try:
                self._make()
            except OSError:                          # the disk may be worse than full: whoever writes will say so
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)

    def _make(self) -> None:
        state = os.statvfs(self._path.parent)
        free = state.f_bavail * state.f_frsize
        size = min(self._limits.ballast, int(free * SHARE))
        if size < LEAST or free < AMPLE * self._released:
            return
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(file, 0, size)        # real blocks: a file with a hole would set nothing aside
        finally:
            os.close(file)
        self.present = True
