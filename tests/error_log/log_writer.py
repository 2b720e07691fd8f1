"""A shop that logs: `python log_writer.py FILE RATE` writes RATE lines a second until SIGTERM, and then says how many of each kind it wrote.

It opens the file anew when another one stands there, as programs do that look after their logs themselves. It never makes that one: logrotate,
which is about to, would move it out of its way.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from io import FileIO
from pathlib import Path

BATCH_SECONDS = 0.01
KINDS = {7: "ERROR", 11: "CRITICAL", 13: "WARNING"}      # every so many lines; of those that fall together the last


def line(number: int) -> tuple[str, str]:
    """The line of this number, and its level."""
    level = next((level for every, level in reversed(KINDS.items()) if number % every == 0), "INFO")
    return f"2026-11-27 18:00:00,{number % 1000:03d} {level} [shop.orders] order {number} at {number:032x} was not what it was to be\n", level


def write(path: Path, rate: float) -> Counter[str]:
    """Write until told to stop; lines by level."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    written: Counter[str] = Counter()
    number, begun, file = 0, time.monotonic(), _opened(path, os.O_CREAT)
    while not stopped:
        with suppress(FileNotFoundError):           # renamed, and the next one is not there yet
            if path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                anew = _opened(path)
                file.close()
                file = anew
        due = int((time.monotonic() - begun) * rate) - number
        texts = [line(number + more) for more in range(due)]
        file.write("".join(text for text, _ in texts).encode())
        written.update(level for _, level in texts)
        number += due
        time.sleep(BATCH_SECONDS)
    return written


def _opened(path: Path, more: int = 0) -> FileIO:
    return FileIO(os.open(path, os.O_WRONLY | os.O_APPEND | more, 0o644), "ab")


if __name__ == "__main__":
    print(json.dumps(write(Path(sys.argv[1]), float(sys.argv[2]))), flush=True)
