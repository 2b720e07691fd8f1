"""The folder in which the faults happen, and what they logged."""

import socket
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

FAULTS = Path(__file__).resolve().parent / "faults"
RELEASES = ("20261102091500", "20261127021402", "3f9c1d7ab204")


class Site:
    """`events` are (format, label, text); `dropped` counts the lines that did not belong to the fault that was triggered, by label."""

    def __init__(self, folder: Path, python: Path, stack: ExitStack) -> None:
        self.folder, self.python, self.stack = folder, python, stack
        self.events: list[tuple[str, str, str]] = []
        self.dropped: Counter[str] = Counter()
        self.db_port = 0
        base = subprocess.run([python, "-c", "import sys; print(sys.base_prefix)"], check=True, capture_output=True, text=True).stdout.strip()
        self._usual = ((str(folder), ""), (str(python.parents[1]), "/srv/venv"), (base, "/usr"))      # where shops have such things

    def add(self, kind: str, label: str, text: str, mark: str = "") -> None:
        """One event; `mark` has to be in it."""
        for path, usual in self._usual:
            text = text.replace(path, usual)
        text = text.rstrip("\n")
        if text and mark in text:
            self.events.append((kind, label, text))
        else:
            self.dropped[label] += 1

    def release(self, turn: int) -> Path:
        """The root of the shop's code in one of its releases."""
        return self.folder / "srv/shop/releases" / RELEASES[turn % len(RELEASES)]

    def install(self, source: str, sign: str, first: str = "") -> None:
        """Split a file of faults/ at its lines "SIGN PATH" into files, in each release. What is before the first goes to `first`."""
        parts = (f"\n{sign} {first}\n" + (FAULTS / source).read_text()).split(f"\n{sign} ")[1:]
        for turn in range(len(RELEASES)):
            for part in parts:
                name, _, body = part.partition("\n")
                if name:
                    path = self.release(turn) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(body)

    def start(self, *command: str | Path, **options: object) -> subprocess.Popen[bytes]:
        """A server that ends with the site."""
        process = subprocess.Popen([str(part) for part in command], **options)     # type: ignore[call-overload]

        def end() -> None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        self.stack.callback(end)
        return process


class Grown:
    """What a log has more than at the last look."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, path.stat().st_size if path.exists() else 0

    def read(self, patience: float = 3.0, lines: int = 1) -> str:
        """Waits until there are so many more lines, or no longer than `patience` s."""
        end = time.monotonic() + patience
        while True:
            data = self.path.read_bytes()[self.offset:] if self.path.exists() else b""
            if data.count(b"\n") >= lines or time.monotonic() > end:
                self.offset += len(data)
                return data.decode("utf-8", "replace")
            time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, patience: float = 20.0) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
