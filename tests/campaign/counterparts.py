"""Those whom the daemon of a campaign meets, each a process of its own that nobody kills: the shop, PagerDuty, a webhook.

`python counterparts.py shop|pagerduty|hook SEED` prints one line of JSON with its port, and ends on SIGTERM; `GET /history` gives what
happened, as JSON. The receivers take their time, so that a kill finds messages under way: before a message has been taken, and after it
before its answer. A request that has arrived is taken although its sender is dead by then. With seed 0 the shop fails by
`POST /break/PAGE` only, and receivers always take as long.
"""

import asyncio
import json
import random
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent.parent / "alerts"))

from fake_pagerduty import PagerDuty
from shop_script import HOSTS, PROBES, Script, by_status, written

LONGEST = 3600.0           # s of the shop's script
BEFORE, AFTER = 0.06, 0.12      # s at most, before a message is taken and after that
SLOW, SLOW_SECONDS = 0.03, 0.8      # share of the messages that wait longer before they are taken
THROTTLE = 100_000         # events a minute: scripts come and go faster than any shop


class Shop:
    """Pages that fail by the script until `POST /recover` (or `/recover/PAGE`); the first visit of every life is noted."""

    def __init__(self, seed: int) -> None:
        self.script, self.opened = written(seed, LONGEST) if seed else Script({page: [] for page in PROBES}), time.time()
        self._begun = time.monotonic()
        self.visits: dict[str, float] = {}

    async def take(self, request: web.Request) -> web.StreamResponse:
        at = time.monotonic() - self._begun
        if request.method == "POST":
            what, _, page = request.path.strip("/").partition("/")
            self.script = self.script.broken(page, at) if what == "break" else self.script.until(at, page)
            return web.Response(status=204)
        if request.path == "/history":
            return web.json_response({"opened": self.opened, "spells": self.script.spells, "visits": self.visits})
        self.visits.setdefault(request.headers.get("X-Life", ""), self.opened + at)
        probe = request.path.strip("/")
        if not self.script.fails(probe, at):
            return web.Response(text="Add to basket")
        return web.Response(status=500, text="oh no") if by_status(probe) else web.Response(text="nothing to see here")


class Pager:
    """The fake PagerDuty, at its leisure. Events of one alert are worked on in the order in which they arrived; after `POST /hold` the next
    event is worked on only after `POST /release`, out of order, as if the network had held it up. `GET /held`: how many are being held.
    """

    def __init__(self, seed: int) -> None:
        self._service, self._leisure = PagerDuty(most=THROTTLE), Leisure(seed)
        self._alerts: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._hold, self._held, self._released = False, 0, asyncio.Event()

    async def take(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/held":
            return web.json_response(self._held)
        if request.method == "GET":
            return await self._service.take(request)
        if request.path in {"/hold", "/release"}:
            (self._released.clear if request.path == "/hold" else self._released.set)()
            self._hold = request.path == "/hold"
            return web.Response(status=204)
        event, arrived = json.loads(await request.read()), time.time()
        if self._hold:
            self._hold, self._held = False, self._held + 1
            await self._released.wait()
            self._held -= 1
        async with self._alerts[event["dedup_key"]]:         # they get it in the order in which they ask
            await self._leisure.before()
            answer = await self._service.take(request)
            entry = next(e for e in reversed(self._service.history) if e.get("dedup_key") == event["dedup_key"])
            entry["at"] = arrived                            # as the webhook tells it: a kill is before or after that
        await self._leisure.after()
        return answer


class Hook:
    """Takes every message and keeps who, what and when."""

    def __init__(self, seed: int) -> None:
        self._leisure = Leisure(seed)
        self.history: list[dict[str, Any]] = []

    async def take(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(self.history)
        message = json.loads(await request.read())
        entry = {"at": time.time(), "id": request.headers["webhook-id"], "type": message["type"], "incident": message["data"]["incident"]}
        await self._leisure.before()
        self.history.append(entry)
        await self._leisure.after()
        return web.Response(status=204)


class Leisure:
    """How long a receiver takes."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed) if seed else None

    async def before(self) -> None:
        if self._chance:
            slow = self._chance.random() < SLOW
            await asyncio.sleep(SLOW_SECONDS if slow else self._chance.uniform(0.0, BEFORE))

    async def after(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, AFTER) if self._chance else AFTER)


async def main(who: str, seed: int) -> None:
    """Serve on loopback until SIGTERM; the shop on all its hosts, at one port."""
    service = {"shop": Shop, "pagerduty": Pager, "hook": Hook}[who](seed)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    application = web.Application(client_max_size=16_000_000)
    application.router.add_route("*", "/{path:.*}", service.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    port = 0
    for host in HOSTS if who == "shop" else HOSTS[:1]:
        await web.TCPSite(runner, host, port).start()
        port = runner.addresses[0][1]
    print(json.dumps({"port": port}), flush=True)
    await stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
