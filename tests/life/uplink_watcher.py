"""Watches its uplink in a network namespace, and prints each change: `witnesses N`, `lost SECONDS`, `found SECONDS` since the last line."""

import asyncio
import sys
from time import monotonic

from monitor.clock import Clock
from monitor.uplink import Uplink
from probes.sample import Outcome, Sample

FAILED = Sample("home", Outcome.FAILED, reason="connect_timeout")


async def main(witnesses: list[str]) -> None:
    uplink = Uplink([(host, int(port)) for host, port in (w.split(":") for w in witnesses)], Clock())
    asking = asyncio.create_task(uplink.run())
    said, since = "", monotonic()
    while not asking.done():
        await asyncio.sleep(0.05)
        uplink.note(FAILED)
        state = "lost" if uplink.lost else "found" if said.startswith(("lost", "found")) else f"witnesses {len(uplink.witnesses)}"
        if state != said:
            print(state, f"{monotonic() - since:.2f}", flush=True)
            said, since = state, monotonic()
    asking.result()


asyncio.run(main(sys.argv[1:]))
