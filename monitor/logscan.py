"""`tillwatch logs scan`: the error signatures of files that are there, with how often each was logged."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from monitor import client
from monitor.client import CommandError
from monitor.command import show
from monitor.terminal import escape
from probes.error_log.archives import open_plain
from probes.error_log.event import LEVELS, Level
from probes.error_log.formats import FORMATS, recognise
from probes.error_log.scan import Scanner
from probes.error_log.tally import Tally

SLICE = 1 << 20           # bytes read at once
LONGEST_LINE = 4 << 20    # bytes of one event that are held in memory; the rest is taken as lines of its own


@dataclass(slots=True)
class _Seen:
    """All files together."""

    signatures: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)            # by level
    examples: dict[str, str] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)        # name, format, lines and events of each

    def add(self, tally: Tally) -> None:
        """Take in what a part of a file had."""
        self.signatures.update(tally.signatures)
        self.events.update(tally.events)
        self.examples |= {name: tally.example(name) for name in tally.texts if name not in self.examples}


def run(files: Sequence[str], *, format_: str, level: Level, examples: bool, most: int, as_json: bool) -> None:
    """Scan FILEs and print what was found. Raises CommandError for a file that cannot be read."""
    if format_ != "auto" and format_ not in FORMATS:
        raise CommandError(client.USAGE, f'there is no format "{format_}", only: auto, {", ".join(FORMATS)}')
    seen = _Seen()
    with _progress(files, quiet=as_json) as advance:
        for name in files:
            _scan_file(name, format_, level, seen, advance)
    if as_json:
        show(_as_dict(seen))
    else:
        _print(seen, examples=examples, most=most)


def _scan_file(name: str, format_: str, level: Level, seen: _Seen, advance: Callable[[int], None]) -> None:
    try:
        with _opened(name) as file:
            _scan_stream(name, file, format_, level, seen, advance)
    except (OSError, EOFError, ValueError) as error:
        raise CommandError(client.USAGE, f"{name}: {getattr(error, 'strerror', None) or error}") from None


def _opened(name: str) -> BinaryIO:
    return cast("BinaryIO", click.open_file(name, "rb")) if name == "-" else open_plain(Path(name))


def _scan_stream(name: str, file: BinaryIO, format_: str, level: Level, seen: _Seen, advance: Callable[[int], None]) -> None:
    """Slice by slice; what an event that goes on takes waits for the next one."""
    data = file.read(SLICE)
    format_ = recognise(data[:16384]) if format_ == "auto" else format_
    scanner, lines, events = Scanner(format_, level=level), 0, 0
    while data:
        more = file.read(SLICE)
        advance(len(more))
        scanner.tally = tally = Tally()
        whole = len(data) if not more or len(data) > LONGEST_LINE else data.rfind(b"\n") + 1
        taken = scanner.read(data[:whole], not more or whole > LONGEST_LINE) if whole else 0
        lines, events = lines + tally.lines, events + tally.events.total()
        seen.add(tally)
        data = data[taken:] + more if more else b""
    seen.files.append({"file": name, "format": format_, "lines": lines, "events": events})


@contextmanager
def _progress(files: Sequence[str], *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere. Compressed files make it run ahead."""
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    total = sum(Path(name).stat().st_size for name in files if Path(name).is_file())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("reading", total=total or None)
        yield lambda size: progress.advance(task, size)


def _as_dict(seen: _Seen) -> dict[str, Any]:
    return {
        "files": seen.files, "events": {level: seen.events[level] for level in LEVELS},
        "signatures": [{"level": level, "signature": text, "count": count, "example": seen.examples.get(name, "")}
                       for name, level, text, count in _sorted(seen)],
    }


def _sorted(seen: _Seen) -> Iterator[tuple[str, str, str, int]]:
    """(name, level, text, events), the worst level first, then the most frequent."""
    parts = [(name, *name.partition(":")[::2], count) for name, count in seen.signatures.items()]
    yield from sorted(parts, key=lambda part: (LEVELS.index(part[1]) if part[1] in LEVELS else len(LEVELS), -part[3], part[2]))


def _print(seen: _Seen, *, examples: bool, most: int) -> None:
    console = Console(width=None if sys.stdout.isatty() else 180)
    for file in seen.files:
        console.print(f"{escape(file['file'])}: {file['format']}, {_some(file['lines'], 'line')}, {_some(file['events'], 'event')}", highlight=False)
    if not seen.signatures:
        console.print("No errors found.")
        return
    table, shown = Table("events", "level", "signature", box=None, pad_edge=False), 0
    for name, level, text, count in _sorted(seen):
        if shown == most:
            break
        shown += 1
        example = seen.examples.get(name, "") if examples else ""
        table.add_row(f"{count:,}", level, escape(text) + (f"\n[dim]{escape(example)}[/dim]" if example else ""))
    console.print(table)
    if (left := len(seen.signatures) - shown) > 0:
        console.print(f"... and {left:,} more: --most {len(seen.signatures)} shows all", highlight=False)


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
