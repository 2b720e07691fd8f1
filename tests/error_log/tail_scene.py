"""A tail as its caller has it: all that it must know goes through an encoded checkpoint, and readers collect what they are given."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from probes.error_log.positions import Positions, decode, encode
from probes.error_log.tail import Opened, Reader, Reading, Tail


def take_all(lines: list[bytes]) -> Reader:
    """A reader that holds nothing back."""
    def reader(data: bytes, final: bool) -> int:
        assert data
        assert len(data) <= 1 << 20
        assert data.endswith(b"\n") or final
        lines.extend(data.splitlines())
        return len(data)
    return reader


def take_events(events: list[bytes]) -> Reader:
    """A reader of events whose further lines are indented: the last one may go on."""
    def reader(data: bytes, final: bool) -> int:
        starts = [0, *(at + 1 for at in range(len(data) - 1) if data[at : at + 1] == b"\n" and data[at + 1 : at + 2] != b" ")]
        ends = [*starts[1:], len(data)]
        whole = list(zip(starts, ends, strict=True))
        if not final:
            whole.pop()
        events.extend(data[start:end] for start, end in whole)
        return whole[-1][1] if whole else 0
    return reader


class Follower:
    """Follows files from run to run. `ahead` is by how many s its clock is ahead of the files'; with `now` that clock stands still there."""

    def __init__(
        self, *patterns: Path | str, begin: str = "beginning", events: bool = False, descriptors: int = 200, now: float | None = None,
    ) -> None:
        self._make: Callable[[], Tail] = lambda: Tail([str(one) for one in patterns], begin, descriptors=descriptors)  # type: ignore[arg-type]
        self._reader = take_events if events else take_all
        self.tail = self._make()
        self.checkpoint: bytes | None = None
        self.lines: list[bytes] = []
        self.files: list[Opened] = []
        self.gaps: list[tuple[str, str]] = []
        self.partial = 0
        self.ahead, self._now = 0.0, now
        self.last: Reading | None = None

    def read(self, *, keep: bool = True, more: Callable[[], bool] = lambda: True) -> list[bytes]:
        """One run; gives the lines that it brought. One that is not kept is as if it had never been."""
        lines: list[bytes] = []
        positions = None if self.checkpoint is None else decode(self.checkpoint)
        now = (time.time() if self._now is None else self._now) + self.ahead
        reading = self.last = self.tail.read(positions, lambda file: self._opened(file, lines), now, more)
        if keep:
            self.checkpoint = encode(reading.positions)
            assert decode(self.checkpoint) == reading.positions
            self.lines += lines
            self.gaps += reading.gaps
            self.partial += reading.partial
        return lines

    def settle(self) -> list[bytes]:
        """Read until all that waits was waited for; gives the lines of it."""
        lines = self.read()
        for _ in range(3):
            self.ahead += 31
            lines += self.read()
        return lines

    def restart(self) -> None:
        """Forget all but the checkpoint."""
        self.tail.close()
        self.tail = self._make()

    @property
    def positions(self) -> Positions:
        """What was remembered last."""
        assert self.checkpoint is not None
        positions = decode(self.checkpoint)
        assert isinstance(positions, Positions)
        return positions

    @property
    def problems(self) -> dict[str, str]:
        """Of the last read."""
        assert self.last is not None
        return dict(self.last.problems)

    def _opened(self, file: Opened, lines: list[bytes]) -> Reader:
        self.files.append(file)
        return self._reader(lines)


def append(path: Path, *lines: str | bytes, end: str = "\n") -> None:
    """Write these lines behind what is there."""
    with path.open("ab") as file:
        file.write(b"".join(line if isinstance(line, bytes) else f"{line}{end}".encode() for line in lines))


def numbered(first: int, last: int, what: str = "line") -> list[str]:
    """Lines that can be told apart."""
    return [f"{what} {number:06d} of a log that goes on and on" for number in range(first, last)]


def as_bytes(lines: list[str]) -> list[bytes]:
    """The same as they are read."""
    return [line.encode() for line in lines]


def zstd_compress(data: bytes) -> bytes:
    """By the command, as logrotate does it."""
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
