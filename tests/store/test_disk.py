"""Disks that are full, read-only, out of inodes or broken: real ones."""

import asyncio
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from disks import fill, needs_root, remount, run, tmpfs
from made import count, made, note, notes, settled
from processes import Stopwatch
from story import begin, deliver, end, sound, states, steps

from monitor.store import Limits, Store, StoreError, records
from monitor.store.ballast import Ballast
from monitor.store.schema import STEPS

QUICK = Limits(busy=0.05, retry=0.05, flush=0.02, ballast_wait=0.05)
ROOT = Path(__file__).resolve().parents[2]
PATHS = f"{ROOT}:{ROOT / 'tests'}:{Path(__file__).parent}"         # of children that import this file


async def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


def stopwatch(store: Store) -> Stopwatch:
    """Less what was withheld from us and from the thread that writes."""
    return Stopwatch(store._writer._thread.native_id)


def look(path: Path, work: Callable[[sqlite3.Connection], object]) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return work(connection)


@needs_root
async def test_a_full_disk_is_survived(tmp_path: Path) -> None:
    """4 MiB, without a ballast: samples wait, incidents and their pages go on in memory, and all is there afterwards."""
    with tmpfs(tmp_path / "disk", "size=4m,mode=0700") as disk:
        async with Store(disk, QUICK) as store:
            assert not store.ballast, "too small a disk"
            await begin(store, "before")
            filler = fill(disk)
            for number in range(2000):
                store.add_sample(made(number, evidence="x" * 50))
            await until(lambda: store.trouble)
            assert store.trouble == "the disk is full"
            during = await begin(store, "during")
            assert sorted(await deliver(store)) == ["before", "during"]
            await end(store, during)
            assert await deliver(store) == ["during"]
            with stopwatch(store) as watch:
                with pytest.raises(StoreError, match="the disk is full"):
                    await store.write(note("x" * 100_000))
                assert store.volatile
                assert max(store.stuck, store.behind) < 1.0 + watch.kept, "a full disk does not look like a hung thread"
                filler.unlink()
                watch.again()
                await until(lambda: not store.trouble)
                assert watch() < 1.0
            assert await store.read(count) == 2000
            assert (store.volatile, store.dropped) == (False, 0)
            assert await deliver(store) == [], "nothing goes out twice"
        assert look(store.path, sound)
        assert look(store.path, states) == [("before", "firing", "done"), ("during", "firing", "done"), ("during", "resolved", "done")]
        assert look(store.path, steps) == [(1, "before", "firing"), (2, "during", "firing"), (3, "during", "resolved")]


@needs_root
async def test_a_daemon_can_start_on_a_full_disk(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=4m,mode=0700") as disk:
        async with Store(disk, QUICK) as store:
            await store.write(lambda c: records.install_id(c, "ours"))
            await begin(store, "before")
        filler = fill(disk)
        async with Store(disk, QUICK) as store:
            assert await store.write(lambda c: records.install_id(c, "fresh"), essential=True) == "ours"
            await begin(store, "during")
            assert store.trouble == "the disk is full"
            assert [i.id for i in await store.read(records.open_incidents)] == ["before", "during"]
            assert await store.read(count) == 0
            filler.unlink()
            await until(lambda: not store.trouble)
            assert not store.repaired
        assert look(store.path, states) == [("before", "firing", "queued"), ("during", "firing", "queued")]
        assert look(store.path, lambda c: records.install_id(c, "fresh")) == "ours"


@needs_root
async def test_an_upgrade_on_a_full_disk_waits_for_space(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=4m,mode=0700") as disk:
        with closing(sqlite3.connect(disk / "tillwatch.sqlite3", isolation_level=None)) as first:
            first.executescript(f"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; {STEPS[0]} PRAGMA user_version = 1;")
            records.install_id(first, "ours")
        filler = fill(disk)
        async with Store(disk, QUICK) as store:
            assert (store.trouble, store.volatile) == ("the disk is full", True)
            assert await store.write(lambda c: records.install_id(c, "fresh"), essential=True) == "ours"
            await begin(store, "during")
            filler.unlink()
            await until(lambda: not store.trouble)
            assert await store.read(states) == [("during", "firing", "queued")]
        assert look(store.path, lambda c: c.execute("PRAGMA user_version").fetchone()[0]) == len(STEPS)
        assert look(store.path, sound)


@needs_root
async def test_the_ballast_is_given_up_when_the_disk_is_full_and_set_aside_again_later(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=64m,mode=0700") as disk:
        async with Store(disk, QUICK) as store:
            assert store.ballast
            held = (disk / "ballast").stat()
            assert held.st_blocks * 512 >= held.st_size > 3 << 20, "real blocks, 5 % of what is free"
            filler = fill(disk)
            store.add_sample(made())
            for number in range(100):
                await store.write(note(f"{number} {'x' * 4000}"))
            assert (store.ballast, store.trouble, store.volatile) == (False, "", False), "it goes on, on the disk"
            assert await store.read(count) == 1
            os.truncate(filler, filler.stat().st_size - (8 << 20))
            await asyncio.sleep(0.1)
            await settled(store)
            assert not store.ballast, "not at every ebb"
            filler.unlink()
            await asyncio.sleep(0.1)
            await settled(store)
            await until(lambda: store.ballast)
        assert (disk / "ballast").exists(), "the next run finds it"


@needs_root
def test_a_ballast_is_not_the_illness(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=16m") as disk:
        ballast = Ballast(disk, Limits())
        ballast.start()
        assert not ballast.present, "5 % would be less than a mebibyte"
        assert not ballast.release()
    with tmpfs(tmp_path / "large", "size=1g") as disk:
        ballast = Ballast(disk, Limits())
        ballast.start()
        assert (disk / "ballast").stat().st_size == 16 << 20
        remount(disk, "ro")
        assert not ballast.release(), "nothing is gained where nothing can be deleted"


@needs_root
async def test_a_read_only_file_system_is_no_reason_not_to_start(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=16m,mode=0700") as disk:
        async with Store(disk, QUICK) as store:
            await store.write(lambda c: records.install_id(c, "ours"))
            store.add_sample(made())
            await begin(store, "before")
        remount(disk, "ro")
        async with Store(disk, QUICK) as store:
            assert (store.trouble, store.volatile) == ("the file system is read-only", True)
            assert await store.write(lambda c: records.install_id(c, "fresh"), essential=True) == "ours"
            assert [i.id for i in await store.read(records.open_incidents)] == ["before"]
            store.add_sample(made(1))
            await begin(store, "during")
            remount(disk, "rw")
            await until(lambda: not store.trouble)
            await settled(store)
            assert await store.read(count) == 2
        assert look(store.path, states) == [("before", "firing", "queued"), ("during", "firing", "queued")]


@needs_root
async def test_a_file_system_without_inodes_costs_nothing(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=16m,nr_inodes=12,mode=0700") as disk:
        async with Store(disk, QUICK) as store:
            taken = take_inodes(disk)
            assert 0 < len(taken) < 20
            store.add_sample(made())
            await begin(store, "during")
            assert (store.trouble, await store.read(count)) == ("", 1), "all its files are open"
        for file in disk.glob("tillwatch.sqlite3-*"):
            file.unlink()
        async with Store(disk, QUICK) as store:
            await begin(store, "after")
            assert await deliver(store)
            for file in taken:
                file.unlink()
            await until(lambda: not store.trouble)
        assert sorted(row[0] for row in look(store.path, states)) == ["after", "during"]  # type: ignore[attr-defined]


@needs_root
async def test_a_file_system_that_turns_read_only_after_an_error_is_survived(tmp_path: Path) -> None:
    """What ext4 does with errors=remount-ro: open files can still be read."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    try:
        run("mkfs.ext4", "-q", str(image))
        run("mount", "-o", "loop,errors=remount-ro", str(image), str(disk))
    except OSError as error:
        pytest.skip(f"NOT TESTED: an ext4 that meets an error: {error}")
    try:
        async with Store(disk, QUICK) as store:
            await begin(store, "before")
            break_ext4(disk)
            store.add_sample(made())
            await until(lambda: store.trouble)
            assert store.trouble in {"the file system is read-only", "input/output error"}, "not every kernel says that it is read-only now"
            await begin(store, "during")
            assert sorted(await deliver(store)) == ["before", "during"]
            assert store.volatile
            with pytest.raises(StoreError, match=r"the file system is read-only|input/output error"):
                await store.write(note("refused"))
            assert await store.read(count) == 0
    finally:
        run("umount", "-l", str(disk))


def take_inodes(disk: Path) -> list[Path]:
    """Make files until no more can be made."""
    taken: list[Path] = []
    with suppress(OSError):
        for number in range(20):
            (disk / str(number)).touch()
            taken.append(disk / str(number))
    return taken


def break_ext4(disk: Path) -> None:
    """Let the kernel find an error in the file system."""
    loop = Path(subprocess.check_output(["findmnt", "-no", "SOURCE", str(disk)], text=True).strip()).name
    trigger = Path(f"/sys/fs/ext4/{loop}/trigger_fs_error")
    if not trigger.exists():
        pytest.skip("NOT TESTED: this kernel cannot make an ext4 fail")
    trigger.write_text("1")


# ---- faults that are set in a child


async def limited(directory: Path) -> dict[str, object]:
    """No file may be opened or grow: what is open goes on, what must be made anew waits."""
    async with Store(directory, QUICK) as store:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, files[1]))
        await begin(store, "without files")
        told: dict[str, object] = {"without files": store.trouble}
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, size[1]))
        store.add_sample(made())
        await begin(store, "without growth")
        told["without growth"] = (store.trouble, store.volatile)
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
        await until(lambda: not store.trouble)
        told["samples"] = await store.read(count)
        told["delivered"] = sorted(await deliver(store))
    return told


async def faulty(directory: Path) -> dict[str, object]:
    """Incidents and notes for a while, on a disk that fails now and then: what was acknowledged, and how often it failed."""
    failures: list[str] = []
    acknowledged: list[str] = []
    told: list[str] = []
    async with Store(directory, replace(QUICK, retry=0.005)) as store:
        store.on_failure = failures.append
        for number in range(250):
            store.add_sample(made(number))
            await begin(store, f"incident {number:03}")
            told += await deliver(store)
            try:
                await store.write(note(f"note {number:03}"))
                acknowledged.append(f"note {number:03}")
            except StoreError:
                pass
        for _ in range(1000):
            if not store.trouble and not store.volatile:
                break
            await asyncio.sleep(0.01)
        settled_ = not store.volatile
    heard = sorted({failure.split(" (")[0] for failure in failures})
    return {"failures": len(failures), "words": heard, "notes": acknowledged, "told": told, "settled": settled_}


def child(name: str, directory: Path, *before: str) -> dict[str, object]:
    done = subprocess.run(
        [*before, sys.executable, "-c", f"import test_disk; test_disk.main({name!r}, {str(directory)!r})"],
        env=os.environ | {"PYTHONPATH": PATHS}, cwd=directory, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def main(name: str, directory: str) -> None:
    work = {"limited": limited, "faulty": faulty}[name]
    print(json.dumps(asyncio.run(work(Path(directory)))))


@pytest.mark.timeout(120)
def test_limits_of_the_process_are_survived(tmp_path: Path) -> None:
    told = child("limited", tmp_path)
    assert told == {
        "without files": "", "without growth": ["input/output error", True], "samples": 1, "delivered": ["without files", "without growth"]}


@pytest.mark.timeout(120)
@pytest.mark.skipif(not shutil.which("fiu-run"), reason="NOT TESTED: a disk with I/O errors, because fiu-run is missing (Debian: fiu-utils)")
def test_io_errors_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """libfiu makes every 50th pwrite and fdatasync fail."""
    faults = "; ".join(f"enable_random name=posix/io/{name},probability=0.02" for name in ("rw/pwrite", "sync/fdatasync"))
    told = child("faulty", tmp_path, "fiu-run", "-x", "-c", faults)
    path = tmp_path / "tillwatch.sqlite3"
    assert told["settled"]
    assert told["failures"], "the faults are real"
    assert "input/output error" in told["words"], "and others: a full disk, as libfiu likes"  # type: ignore[operator]
    assert look(path, sound)
    names = look(path, notes)
    assert set(told["notes"]) <= set(names)  # type: ignore[call-overload]
    rows: dict[str, str] = {incident: state for incident, _, state in look(path, states)}  # type: ignore[attr-defined]
    assert list(rows) == [f"incident {number:03}" for number in range(250)]
    assert set(rows.values()) == {"done"}
    assert len(told["told"]) == len(set(told["told"])) == 250, "each is told once"  # type: ignore[arg-type, call-overload]
    assert look(path, count) == 250


def test_what_is_in_memory_only_is_lost_by_kill_9_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sqlite3, sys\nfrom pathlib import Path\n"
        "from story import begin\nfrom test_disk import QUICK\nfrom monitor.store import Store\n"
        "async def main():\n"
        "    async with Store(Path(sys.argv[1]), QUICK) as store:\n"
        "        await begin(store, 'before')\n"
        "        other = sqlite3.connect(store.path, isolation_level=None)\n"
        "        other.execute('BEGIN IMMEDIATE')\n"
        "        await begin(store, 'during')\n"
        "        assert store.volatile\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONPATH": PATHS}, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    path = tmp_path / "tillwatch.sqlite3"
    assert look(path, sound)
    assert look(path, states) == [("before", "firing", "queued")]


@needs_root
async def test_a_damaged_database_on_a_full_disk_is_replaced_when_there_is_space(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=4m,mode=0700") as disk:
        async with Store(disk, QUICK) as store:
            await store.write(lambda c: records.install_id(c, "ours"))
            await begin(store, "before")
        store.path.write_bytes(b"garbage" * 10_000)
        filler = fill(disk)
        async with Store(disk, QUICK) as store:
            assert store.trouble == "the disk is full"
            assert await store.write(lambda c: records.install_id(c, "fresh"), essential=True) == "ours"
            await begin(store, "during")
            assert sorted(await deliver(store)) == ["before", "during"]
            filler.unlink()
            await until(lambda: not store.trouble)
            assert "the copy of the essentials" in store.repaired
            assert [state for *_, state in await store.read(states)] == ["done", "done"]


def test_a_backup_under_load_is_whole_and_fresh(tmp_path: Path) -> None:
    """Made as docs/operating.md says, by another process."""
    asyncio.run(backed_up(tmp_path))


async def backed_up(directory: Path) -> None:
    backup, times = directory / "backup.sqlite3", []
    command = (
        f"import sqlite3; sqlite3.connect('file:{directory}/tillwatch.sqlite3?mode=ro', uri=True)"
        f".backup(sqlite3.connect('{backup}'))")
    async with Store(directory) as store:
        for number in range(20_000):
            store.add_sample(made(number, evidence="x" * 100))
        await settled(store)
        await store.write(note("before"))
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", command)
        ended = asyncio.ensure_future(child.wait())
        number = 0
        with stopwatch(store) as watch:
            while not ended.done():
                store.add_sample(made(number))
                watch.again()
                await store.write(note(f"{number:06}"))
                times.append(watch())
                number += 1
                await asyncio.sleep(0.001)
    assert child.returncode == 0
    assert look(backup, sound)
    assert look(backup, count) >= 20_000  # type: ignore[operator]
    assert "before" in look(backup, notes), "what was there when it began is in it"  # type: ignore[operator]
    assert sorted(times)[int(len(times) * 0.99) - 1] < 0.5, "usually 5 ms"
