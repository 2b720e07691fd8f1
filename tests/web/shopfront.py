"""A daemon's web room without the daemon: real store, real updates, real sockets, a clock moved by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from listening import serve

from monitor.alerts.page import Facts, ShopFacts
from monitor.before import Judged
from monitor.casebook import Casebook, Reports
from monitor.clock import ManualClock
from monitor.exporter import Exporter
from monitor.health import Target
from monitor.judge.signals import Margin, Subject
from monitor.store import Store
from monitor.updates import UpdateSettings
from monitor.watch import Pace, Watch
from monitor.web.api import Api
from monitor.web.auth import Guard, Tokens, local_token
from monitor.web.pages import Insight, Pages
from monitor.web.settings import TokenSettings, WebSettings
from probes.sample import Outcome, Sample
from probes.table import PROBES

HOME: Target = ("home", "", "")
TOKENS = {"reader": "read-0123456789", "ci": "update-0123456789", "boss": "admin-0123456789"}
SCOPES = {"reader": "read", "ci": "update", "boss": "admin"}


def made(at: float, **values: Any) -> Sample:
    return Sample(**{"probe": "home", "outcome": Outcome.OK, "seconds": 0.125, "spacing": 30.0, "started": at, "ended": at + 0.125} | values)


@dataclass
class Front:
    """What a test asks, and what it looks at behind."""

    store: Store
    exporter: Exporter
    casebook: Casebook
    watch: Watch
    clock: ManualClock
    local: str
    status: dict[str, Any] = field(default_factory=lambda: {"healthy": True, "ready": True, "store": "ok"})
    targets: list[dict[str, Any]] = field(default_factory=lambda: [{"probe": "home", "device": "", "cohort": "", "state": "up"}])
    means: dict[str, str] = field(default_factory=dict)
    url: str = ""
    taken: tuple[bool, dict[str, Any]] = (True, {"added": [], "removed": [], "changed": []})
    session: aiohttp.ClientSession = None  # type: ignore[assignment]  # set before it is handed out

    async def reload(self) -> tuple[bool, dict[str, Any]]:
        """What the composition root would do."""
        return self.taken

    async def ask(self, path: str, *, method: str = "GET", token: str = "", **how: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, body (as JSON where it is), and the answer."""
        headers = how.pop("headers", {}) | ({"Authorization": f"Bearer {TOKENS.get(token, token)}"} if token else {})
        async with self.session.request(method, self.url + path, headers=headers, **how) as answer:
            body = await (answer.json(content_type=None) if "json" in answer.content_type else answer.text())
            return answer.status, body, answer

    async def start(self, version: str = "2.0", **body: Any) -> dict[str, Any]:
        status, facts, _ = await self.ask("/api/v1/updates", method="POST", token="ci", json={"version": version} | body)
        assert status == 201, facts
        return dict(facts)

    async def act(self, id_: str, act: str, **body: Any) -> tuple[int, Any]:
        return (await self.ask(f"/api/v1/updates/{id_}/{act}", method="POST", token="ci", json=body))[:2]


@asynccontextmanager
async def front(directory: Path, web: WebSettings | None = None, ssl: Any = True) -> AsyncIterator[Front]:
    web = web or WebSettings(listen="127.0.0.1:0")
    clock, exporter = ManualClock(), Exporter("till", [HOME])
    async with Store(directory) as store:
        casebook = Casebook(store, (), clock, Reports(changed=exporter.incidents))
        subject = Subject(*HOME, "http", True, False, Margin(), PROBES["http"].signals)
        watch = Watch(UpdateSettings(), {HOME: Judged(subject, 30.0, 30.0)}, store, casebook, exporter, clock, Pace())
        await watch.load()
        committing = asyncio.create_task(casebook.run())
        found = Front(store, exporter, casebook, watch, clock, local_token(directory))
        given = [TokenSettings.model_validate({"name": n, "value": TOKENS[n], "scopes": [SCOPES[n]]}) for n in TOKENS]
        guard = Guard(Tokens(given, found.local), open_reads=web.tls is None)
        api = Api(store=store, exporter=exporter, operations=watch, guard=guard, clock=clock, status=lambda: found.status,
                  targets=lambda: found.targets, shop="till", reload=found.reload)
        pages = Pages(store=store, operations=watch, guard=guard, clock=clock, insight=Insight(
            lambda: found.targets, lambda: casebook.open,
            lambda: Facts(ShopFacts("till", "https://shop.example"), means=found.means), lambda: found.status))
        routes = [*api.routes(), *pages.routes()]
        async with serve(web, routes) as port, aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ssl)) as found.session:
            found.url = f"{'https' if web.tls else 'http'}://127.0.0.1:{port}"
            yield found
        committing.cancel()
