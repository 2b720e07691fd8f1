"""Processes that write to a store until they are killed, or until they may not write. Imported by the child."""

import asyncio
import itertools
import resource
from multiprocessing.connection import Connection
from pathlib import Path

from made import made

from monitor.store import Store, StoreError

SAMPLES_EACH = 3


def acknowledge(directory: str, acknowledged: Connection, first: int) -> None:
    """Writes for ever, and says the number of each commit after it."""
    asyncio.run(_acknowledge(Path(directory), acknowledged, first))


async def _acknowledge(directory: Path, acknowledged: Connection, first: int) -> None:
    async with Store(directory) as store:
        for number in itertools.count(first):
            for part in range(SAMPLES_EACH):
                store.add_sample(made(number + part / 10, reason=str(number), checkpoint=str(number).encode()))
            await store.write(lambda c, n=number: c.execute("INSERT INTO meta VALUES (?, 'acknowledged')", (f"commit {n:06}",)))
            acknowledged.send(number)


def _size(path: str) -> int:
    return Path(path).stat().st_size


def fill(directory: str, out: Connection) -> None:
    """Tells what became of a write and of samples while files may not grow, and after."""
    out.send(asyncio.run(_fill(Path(directory))))


async def _fill(directory: Path) -> dict[str, object]:
    told: dict[str, object] = {}
    async with Store(directory) as store:
        failures: list[str] = []
        store.on_failure = failures.append
        await store.write(lambda c: c.execute("INSERT INTO meta VALUES ('before', '1')"))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_size(f"{store.path}-wal") + 512, before[1]))
        for number in range(50):
            store.add_sample(made(number, evidence="x" * 300))
        try:
            await store.write(lambda c: c.execute("INSERT INTO meta VALUES ('refused', '1')"))
        except StoreError as error:
            told["refused"] = str(error)
        told["failing"] = store.failing_since is not None
        told["read while full"] = await store.read(lambda c: c.execute("SELECT count(*) FROM sample").fetchone()[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        await store.write(lambda c: c.execute("INSERT INTO meta VALUES ('after', '1')"))
        await asyncio.sleep(0)
        told["failures"], told["failing after"] = len(failures), store.failing_since is not None
        told["samples"] = await store.read(lambda c: c.execute("SELECT count(*) FROM sample").fetchone()[0])
        told["meta"] = await store.read(lambda c: [n for (n,) in c.execute("SELECT name FROM meta ORDER BY name")])
        told["integrity"] = await store.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0])
    return told
