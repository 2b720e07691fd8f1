"""A process that asks the submit guard, says what it was told, and then hangs until it is killed: `guard_taker.py FOLDER RUN NOW`."""

import asyncio
import sys
from pathlib import Path

from monitor.clock import ManualClock
from monitor.store import Store
from monitor.store.guard import StoredGuard


async def main(folder: Path, run: str, now: float) -> None:
    async with Store(folder) as store:
        print(repr(await StoredGuard(store, ManualClock(now)).take(("checkout", "", ""), run, 300.0)), flush=True)
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
