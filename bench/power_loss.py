"""What a power cut leaves of the store: `python bench/power_loss.py [--commits 200] [--seed 7] [--careless]`. Needs strace.

A process commits through the real store, says after each commit that it was acknowledged, and is watched by strace: every write, sync and
truncation of the database and its log. Then the power is cut after every single one of these calls, in the mind: what had been synced is
there; of what was written since, nothing is, all is, or whatever chance decides, by sectors of 512 bytes. Every such pair of files is
opened by SQLite. What must hold: `integrity_check` is ok, and every commit that was acknowledged by then is there. `--careless` opens the
store with `synchronous = NORMAL`, which must lose something: it shows that this can be seen.
"""

import argparse
import asyncio
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from monitor.store import Store, writer

NAMES = ("tillwatch.sqlite3", "tillwatch.sqlite3-wal")
SECTOR = 512
SHOWN = 5
LARGE = 40_000             # characters in every other commit, so that the log is taken over into the database meanwhile
_CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+=\s+(-?\d+)")
_HEX = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass
class File:
    """What is on the disk for certain, and what was written since: (offset, bytes), or (size, None) for a truncation."""

    safe: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.since:
            apply(self.safe, *change)
        self.since.clear()

    def after_power_cut(self, chance: random.Random | None, *, all_of_it: bool) -> bytes:
        image = bytearray(self.safe)
        for offset, data in self.since:
            if data is None or not chance:
                if all_of_it or (chance and chance.random() < 0.5):
                    apply(image, offset, data)
                continue
            for at in range(0, len(data), SECTOR):
                if chance.random() < 0.5:
                    apply(image, offset + at, data[at:at + SECTOR])
        return bytes(image)


def apply(image: bytearray, offset: int, data: bytes | None) -> None:
    """One write or truncation."""
    if data is None:
        del image[offset:]
        image.extend(bytes(offset - len(image)))
    else:
        image.extend(bytes(max(0, offset - len(image))))
        image[offset:offset + len(data)] = data


# The process that is watched

async def commit(folder: Path, commits: int, *, careless: bool) -> None:
    """Commit, and say so; then end without a word."""
    prepare = writer._prepare  # noqa: SLF001 - only in this process, to show a fault

    def prepared(connection: sqlite3.Connection) -> None:
        prepare(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
    if careless:
        writer._prepare = prepared  # noqa: SLF001
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT)
    async with Store(folder) as store:
        for number in range(commits):
            value = "x" * LARGE if number % 2 else ""
            await store.write(lambda c, n=number, v=value: c.execute("INSERT INTO meta VALUES (?, ?)", (f"commit {n:06}", v)), essential=True)
            os.write(acknowledged, b"%06d" % number)
        os._exit(0)


# The calls that it made

def calls(trace: Path) -> Iterator[tuple[str, str, int]]:
    """(call, arguments, result) in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        process, _, rest = line.partition(" ")
        whole = line
        if rest.endswith("<unfinished ...>"):
            begun[process] = rest.strip().removesuffix(" <unfinished ...>")
            continue
        if "resumed>" in rest:
            whole = f"{process} {begun.pop(process)}{rest.partition('resumed>')[2]}"
        if found := _CALL.match(whole):
            yield found[2], found[3], int(found[4])


def raw(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def cuts(trace: Path, folder: Path) -> Iterator[tuple[dict[str, File], int]]:
    """After each call that changes a file or syncs it: the files, and how many commits were acknowledged."""
    files: defaultdict[str, File] = defaultdict(File)
    names: dict[int, str] = {}
    acknowledged = 0
    for call, arguments, result in calls(trace):
        first = arguments.partition(",")[0]
        if call == "openat" and (quoted := _HEX.search(arguments)) and result >= 0:
            path = Path(os.fsdecode(raw(quoted[1])))
            names[result] = path.name if path.parent == folder else ""
            continue
        name = names.get(int(first), "") if first.isdigit() else ""
        if call == "close":
            names.pop(int(first), None)
        elif name == "acknowledged" and call == "write":
            acknowledged += 1
            yield files, acknowledged
        elif name in NAMES and result >= 0:
            change(files[name], call, arguments, result)
            yield files, acknowledged


def change(file: File, call: str, arguments: str, result: int) -> None:
    if call in {"fsync", "fdatasync"}:
        file.sync()
    elif call == "ftruncate":
        file.since.append((int(arguments.rpartition(",")[2]), None))
    elif call == "pwrite64" and (quoted := _HEX.search(arguments)):
        data = raw(quoted[1])
        assert len(data) >= result, "strace cut a write short"
        file.since.append((int(arguments.rpartition(",")[2]), data[:result]))


# What is left

def wrong(folder: Path, images: dict[str, bytes], acknowledged: int) -> str:
    """What is missing or damaged; "" if nothing is."""
    for name in NAMES:
        (folder / name).write_bytes(images.get(name, b""))
    (folder / f"{NAMES[0]}-shm").unlink(missing_ok=True)
    connection = sqlite3.connect(folder / NAMES[0])
    try:
        said = connection.execute("PRAGMA integrity_check").fetchone()[0]
        there = {name for (name,) in connection.execute("SELECT name FROM meta")} if acknowledged else set()
    except sqlite3.Error as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    lost = [number for number in range(acknowledged) if f"commit {number:06}" not in there]
    return (said if said != "ok" else "") or (f"lost {len(lost)} of {acknowledged}, first {lost[0]}" if lost else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--careless", action="store_true")
    parser.add_argument("--watched", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watched:
        asyncio.run(commit(given.watched, given.commits, careless=given.careless))
    chance, begun, tried, found = random.Random(given.seed), time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="tillwatch-power-") as place:
        state, left, trace = Path(place, "state"), Path(place, "left"), Path(place, "trace")
        state.mkdir(mode=0o700)
        left.mkdir()
        watch = ["strace", "-f", "-xx", "-s", "100000000", "-e", "trace=openat,close,write,pwrite64,fsync,fdatasync,ftruncate", "-o", str(trace)]
        child = [sys.executable, __file__, "--watched", str(state), "--commits", str(given.commits), *["--careless"] * given.careless]
        subprocess.run([*watch, *child], check=True)
        points = 0
        for files, acknowledged in cuts(trace, state):
            points += 1
            for keep in (partial(File.after_power_cut, chance=None, all_of_it=False), partial(File.after_power_cut, chance=None, all_of_it=True),
                         partial(File.after_power_cut, chance=chance, all_of_it=False)):
                tried += 1
                said = wrong(left, {name: keep(file) for name, file in files.items()}, acknowledged)
                found += bool(said)
                if said and found <= SHOWN:
                    print(f"WRONG after call {points}, {acknowledged} acknowledged: {said}")
    print(f"{acknowledged} commits, power cut after each of {points} calls, {tried} pairs of files opened in {time.monotonic() - begun:.0f} s: "
          f"{found} damaged or with something lost")
    return int(bool(found) or acknowledged != given.commits)


if __name__ == "__main__":
    sys.exit(main())
