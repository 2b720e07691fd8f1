"""Time from the deciding sample to the first delivery attempt: outages by N of M, and one verdict.

    python bench/page_delay.py [--incidents 1000]

Everything is real but the samples: intake, casebook, store (synchronous FULL), outbox, dispatch, and a webhook receiver on
loopback that notes when each page came. The samples of one probe after the other fail; the clock starts when the
deciding one is handed to `accept`.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aiohttp import web

from monitor import logs
from monitor.alerts.dispatch import Dispatch
from monitor.alerts.page import Facts, ShopFacts
from monitor.alerts.webhook import WebhookSettings
from monitor.casebook import Casebook, Reports
from monitor.clock import Clock
from monitor.exporter import Exporter
from monitor.health import Rule
from monitor.intake import Intake, Watched
from monitor.store import Store
from probes.sample import Outcome, Sample

SECRET = "whsec_" + "AAAA" * 8
APART = 70.0      # s between two incidents by the daemon's clock: closer, and the tenth would be part of a storm


class Leaping(Clock):
    """Goes as time does, and leaps when told to."""

    def leap(self, seconds: float) -> None:
        self._offset += seconds


async def measure(count: int) -> list[float]:
    """Seconds from sample to page, for `count` incidents one after the other."""
    arrived: asyncio.Queue[float] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        await request.read()
        arrived.put_nowait(time.perf_counter())
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    clock, delays = Leaping(), []
    receiver = WebhookSettings.model_validate({"name": "hook", "kind": "webhook", "url": url, "secret": SECRET, "remind": "0s"})
    targets = [(f"p{number}", "", "") for number in range(count)]
    async with Store(Path(tempfile.mkdtemp(prefix="page-delay-"))) as store:
        exporter = Exporter("bench", targets)
        rule = Rule.model_validate({"failures": 1, "of": 1, "confirm": "0s"})
        facts = Facts(ShopFacts("bench", "http://127.0.0.1"))
        async with Dispatch(store, [receiver], clock, lambda _incident: facts) as dispatch:
            casebook = Casebook(store, [receiver], clock, Reports(committed=dispatch.wake))
            intake = Intake({t: Watched(rule, host=t[0]) for t in targets}, store, exporter, casebook, clock)
            commits = asyncio.create_task(casebook.run())
            for probe, _, _ in targets:
                now = clock.now()
                begun = time.perf_counter()
                intake.accept(Sample(probe=probe, outcome=Outcome.FAILED, reason="status", started=now, ended=now, seconds=0.1))
                delays.append(await asyncio.wait_for(arrived.get(), 10) - begun)
                clock.leap(APART)
                await asyncio.sleep(0.002)
            commits.cancel()
    await runner.cleanup()
    return delays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--incidents", type=int, default=1000)
    logs.configure("json", logging.CRITICAL)
    delays = sorted(asyncio.run(measure(parser.parse_args().incidents)))
    print(f"load {Path('/proc/loadavg').read_text().split()[0]}; {len(delays)} incidents: median {median(delays) * 1000:.1f} ms, "
          f"p99 {delays[int(len(delays) * 0.99)] * 1000:.1f} ms, max {delays[-1] * 1000:.1f} ms")


if __name__ == "__main__":
    main()
