"""Where the lines come from: files that rotate, or systemd's journal. Both read into one `Found`."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from probes.aside import aside
from probes.error_log.formats import looks_like, recognise
from probes.error_log.journal import Cursor, Entry, Journal, JournalSettings, texts
from probes.error_log.positions import decode, encode
from probes.error_log.scan import Scanner
from probes.error_log.tail import Opened, Reader, Tail
from probes.error_log.tail_find import ARCHIVE, NO_FILE
from probes.error_log.tail_source import ABSENT
from probes.error_log.tally import Tally

READ_SHARE = 0.6          # of the timeout for which lines are read; the rest is left for the next run
SURE = 4096               # bytes of a file that tell its format for good
MOST_FORMATS = 2000       # files whose format is remembered
MUCH = 10_000_000         # bytes that are left for the next run, from which on that is told
_NAMED = 3                # gaps that are told of


@dataclass(slots=True)
class Found:
    """What one run has read. `place` is where the next one goes on; `problems` says why something cannot be read, by path or unit."""

    tally: Tally
    place: bytes | None
    problems: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class Scanners:
    """A scanner a format, made when it is first met."""

    def __init__(self, format_: str, make: Callable[[str], Scanner]) -> None:
        self._format, self._make = format_, make
        self._scanners: dict[str, Scanner] = {}
        self._formats: dict[tuple[int, int], str] = {}       # of files, by device and inode

    def of(self, name: str, tally: Tally) -> Scanner:
        """The one for this format, counting into `tally`."""
        if name not in self._scanners:
            self._scanners[name] = self._make(name)
        self._scanners[name].tally = tally
        return self._scanners[name]

    def reader(self, file: Opened, tally: Tally) -> Reader:
        """Reads the lines of this file. One that is still short may be recognised otherwise later, and a program may begin to log otherwise."""
        name = self._recognised(file)

        def read(data: bytes, final: bool) -> int:
            other = name if self._format != "auto" or looks_like(name, data) else recognise(data[:SURE])
            return self.of(name if other == "generic" else other, tally).read(data, final)
        return read

    def _recognised(self, file: Opened) -> str:
        if self._format != "auto":
            return self._format
        key = file.device, file.inode
        if (known := self._formats.get(key)) is not None:
            return known
        found = recognise(file.head)
        if len(file.head) >= SURE:
            if len(self._formats) >= MOST_FORMATS:
                self._formats.clear()
            self._formats[key] = found
        return found


class Files:
    """Reads files. They are read in a thread: storage may be slow, or hang."""

    def __init__(self, tail: Tail, scanners: Scanners, timeout: float) -> None:
        self._tail, self._scanners, self._timeout = tail, scanners, timeout
        self._reading: asyncio.Future[Found] | None = None
        self._closed = False

    async def read(self, place: bytes | None) -> Found:
        """All lines since `place`, or so many as there is time for."""
        if self._reading and not self._reading.done():
            return Found(Tally(), None, {"logs": "storage does not answer: the run before is still reading"})
        end = time.monotonic() + self._timeout * READ_SHARE
        self._reading = aside(lambda: self._read(place, lambda: time.monotonic() < end), "error_log")
        await asyncio.wait([self._reading], timeout=self._timeout)
        if not self._reading.done():
            return Found(Tally(), None, {"logs": f"storage does not answer within {self._timeout:g} s"})
        return self._reading.result()

    def _read(self, place: bytes | None, more: Callable[[], bool]) -> Found:
        tally, now = Tally(), time.time()
        positions = None if place is None else decode(place)
        reading = self._tail.read(positions, lambda file: self._scanners.reader(file, tally), now, more)
        if self._closed:
            self._tail.close()
        tally.partial += reading.partial
        facts = {"log_files": reading.files, "log_bytes_behind": reading.behind}
        lost = "; ".join(f"{path}: {what}" for path, what in reading.gaps[:_NAMED])
        if reading.behind > MUCH:
            lost = "; ".join(filter(None, (lost, f"{reading.behind / 1e6:.0f} MB are left for the next run")))
        problems = {where: why for where, why in reading.problems.items() if not _harmless(where, why)}
        facts["log_problems"] = len(problems)
        return Found(tally, encode(reading.positions), problems, facts, lost)

    async def close(self) -> None:
        """Let go of the files; a thread that still reads does so when it is done."""
        self._closed = True
        if self._reading is None or self._reading.done():
            self._tail.close()


def _harmless(where: str, why: str) -> bool:
    """A log that is made with its first error is not there before; an archive that a pattern stands for was read when it was none."""
    folder = Path(where.partition("*")[0].partition("?")[0].partition("[")[0])
    return why == ARCHIVE or (why in (ABSENT, NO_FILE) and (folder if where.startswith(f"{folder}/") else folder.parent).is_dir())


class Units:
    """Reads the journal. Its texts are gone through in a thread, as there may be many."""

    def __init__(self, settings: JournalSettings, scanners: Scanners, format_: str, timeout: float) -> None:
        self._journal, self._scanners, self._format, self._timeout = Journal(settings), scanners, format_, timeout
        self._scanning: asyncio.Future[Tally] | None = None

    async def read(self, place: bytes | None) -> Found:
        """All entries since `place`, or so many as there is time for."""
        if self._scanning and not self._scanning.done():
            return Found(Tally(), None, {"journal": "what the run before has read is still being gone through"})
        batch = await self._journal.read(Cursor.decode(place), time.time(), self._timeout * READ_SHARE)
        self._scanning = aside(lambda: self._scan(batch.entries), "error_log")
        tally = await self._scanning
        problems = {"journal": batch.problem} if batch.problem else {}
        lost = f"up to {batch.gap} entries were removed from the journal before they were read" if batch.gap else ""
        return Found(tally, batch.cursor.encode(), problems, {"log_entries": len(batch.entries)}, "; ".join(filter(None, (batch.warning, lost))))

    def _scan(self, entries: Sequence[Entry]) -> Tally:
        tally = Tally()
        for text, level in texts(entries):
            scanner = self._scanners.of(recognise(text) if self._format == "auto" else self._format, tally)
            if level is None:
                scanner.read(text, True)
            else:
                scanner.entry(text, level)
        return tally

    async def close(self) -> None:
        """End journalctl."""
        await self._journal.close()
