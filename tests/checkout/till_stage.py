"""The bundled shop with some bad pages, what it was asked, and a checkout probe with a browser to buy there."""

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from monitor.config import probe_model
from monitor.demo.pages import SHOP
from monitor.demo.shop import build_app
from probes.artifacts import Artifacts, mentioned
from probes.checkout.keeper import Keeper, Patience
from probes.checkout.limits import Guard, OneRun
from probes.checkout.link import Link
from probes.checkout.probe import Profiles, probe
from probes.checkout.settings import BrowserSettings
from probes.clients import Clients
from probes.sample import Sample

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
ROOT = Path(__file__).parents[2]
WORKER = (sys.executable, str(Path(__file__).with_name("patient_worker.py")))
PATIENCE = Patience(start=40.0, cancel=40.0, kill=45.0)
CARD = "4242 4242 4242 4242"


@dataclass
class Till:
    """The bundled shop, what it was asked, and a browser to buy there with."""

    url: str
    folder: Path
    clients: Clients
    app: web.Application
    asked: list[web.Request] = field(default_factory=list)
    checkpoint: bytes | None = None

    async def buy(self, source: str | None = None, **keys: Any) -> Sample:
        """One run of a probe with these keys; `source` in place of flows/checkout.py."""
        flow: dict[str, Any] = {"flow": str(ROOT / "flows" / "checkout.py")}
        if source is not None:
            path = self.folder / "flow.py"
            path.write_text("from playwright.async_api import expect\n\n\n" + source, encoding="utf-8")
            flow = {"flow": str(path)}
        if "step" in keys:
            flow = {}
        raw = {"name": "checkout", "kind": "checkout", "url": self.url, "timeout": "60s", "step_timeout": "15s", "secrets": {"card": CARD}}
        raw |= flow | keys
        settings = probe_model("checkout").model_validate(raw, context={"base": self.folder})
        self.asked.clear()
        sample = await probe(settings, self.clients, self.checkpoint)  # type: ignore[arg-type]
        self.checkpoint = sample.checkpoint
        return sample

    def evidence(self, sample: Sample) -> dict[str, bytes]:
        """What a run left, by its kind."""
        return {kind: (self.folder / "artifacts" / name).read_bytes() for kind, name in mentioned(sample.evidence)}

    @property
    def orders(self) -> list[Any]:
        """All that were placed."""
        return list(self.app[SHOP].orders._orders.values())


@asynccontextmanager
async def opened(folder: Path, *routes: web.RouteDef) -> AsyncIterator[Till]:
    """A shop, its browser and all that they leave, in this folder; with these pages more."""
    (folder / "shop").mkdir()
    (folder / "shop" / "release").write_text("1.1\n")
    app = build_app(folder / "shop", 0.0)
    app.add_routes(routes)
    clients = Clients()
    browser = BrowserSettings(no_sandbox=os.geteuid() == 0)
    clients.provide(Link, Link(browser, Keeper(browser, patience=PATIENCE, command=WORKER)))
    clients.provide(Artifacts, Artifacts(folder / "artifacts", 100_000_000))
    clients.provide(Guard, OneRun())  # type: ignore[type-abstract]
    clients.provide(Profiles, Profiles(folder / "profiles"))
    stage = Till("", folder, clients, app)

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        stage.asked.append(request)
        answer: web.StreamResponse = await handler(request)
        return answer
    app.middlewares.insert(0, note)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stage.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with clients:
        yield stage
    await runner.cleanup()
