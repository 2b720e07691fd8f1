"""A program that logs numbered lines: `tail_writer.py LOG RATE`. USR1: open the log anew. TERM: say how many lines there were, and end."""

import os
import signal
import sys
import time

LINE = "%010d the writer wrote this line\n"      # a whole line is as long as every other
PAUSE = 0.002                                   # s between two bursts


class Writer:
    """Writes at a steady rate, one `write` a line."""

    def __init__(self, path: str, rate: float) -> None:
        self._path, self._rate = path, rate
        self._reopen = self._stop = False
        signal.signal(signal.SIGUSR1, self._asked_to_reopen)
        signal.signal(signal.SIGTERM, self._asked_to_stop)

    def run(self) -> int:
        """Write until told to stop; gives the number of lines."""
        log, written, begun = self._open(), 0, time.monotonic()
        while not self._stop:
            while written < (time.monotonic() - begun) * self._rate and not self._stop:
                if self._reopen:
                    self._reopen = False
                    os.close(log)
                    log = self._open()
                written += 1
                os.write(log, (LINE % written).encode())
            time.sleep(PAUSE)
        os.close(log)
        return written

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _asked_to_reopen(self, *_: object) -> None:
        self._reopen = True

    def _asked_to_stop(self, *_: object) -> None:
        self._stop = True


if __name__ == "__main__":
    sys.stdout.write(str(Writer(sys.argv[1], float(sys.argv[2])).run()))
