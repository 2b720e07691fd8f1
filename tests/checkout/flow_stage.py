"""A browser, a small shop of one aiohttp server, and a Flow on it: where declared steps and targets are tried."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from monitor.demo.releases import deploy
from monitor.demo.shop import build_app
from probes.checkout.flow import Flow, Hooks, Limits
from probes.checkout.steps import DeclaredStep
from probes.checkout.walk import walk

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
ROOT_ARGS = ["--no-sandbox"] if os.geteuid() == 0 else []         # Chromium's sandbox cannot be had as root
SECRET = "hunter2-is-long"

PAGE = """<!doctype html><html lang=en><title>Tea &amp; more</title>
<nav><a href=/basket hidden>Basket</a></nav>
<main><h1>Green tea</h1><a href=/basket>Basket</a>
<ul><li class=product>Sencha <button>Add</button><li class=product>Genmaicha <button>Add</button><li class=product hidden>Old</ul>
<label>Card number <input id=card></label> <input placeholder="Voucher code" title="A voucher"> <img alt="A cup" src=data:,>
<label><input type=checkbox id=terms> I agree</label>
<label>Country <select id=country><option value=at>Austria<option value=de>Germany</select></label>
<label>Slow <input id=slow></label><p data-testid=sum>Total: 23,40 EUR</p>
<button id=late disabled>Pay</button> <button id=ask onclick="document.title = confirm('Sure?') ? 'sure' : 'not sure'">Ask</button>
<button id=xhr onclick="fetch('/ajax/order?x=1', {method: 'POST'})">Order</button>
<button id=bad onclick="fetch('/ajax/broken', {method: 'POST'})">Order badly</button>
<iframe title="Secure card frame" srcdoc="<label>Card number <input id=inside></label>"></iframe>
<iframe name=second srcdoc="<button>Inner</button>"></iframe>
<p id=far style="margin-top: 3000px">The end</p>
<script>setTimeout(() => { late.disabled = false; late.insertAdjacentHTML('afterend', '<p id=number>Order KL-7: thank you</p>') }, 150);
slow.onkeydown = () => { slow.title = (slow.title || '') + 'k' };
document.onkeydown = e => { if (e.key === 'Escape') document.body.dataset.escaped = 'yes' }</script></main></html>"""


@dataclass
class Stage:
    """One page with a flow on it, and what the flow said on the way."""

    page: Page
    flow: Flow
    told: list[tuple[str, str, str]] = field(default_factory=list)       # step, state, reason
    asked: int = 0

    async def walk(self, *do: dict[str, Any], name: str = "step", **more: Any) -> None:
        await walk(self.flow, [DeclaredStep.model_validate({"name": name, "do": list(do), **more})])


async def _page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


async def _basket(_: web.Request) -> web.Response:
    return web.Response(text="<title>Your basket</title><h1>Your basket</h1>", content_type="text/html")


async def _order(_: web.Request) -> web.Response:
    return web.json_response({"ok": True}, status=201)


async def _broken(_: web.Request) -> web.Response:
    return web.json_response({}, status=500)


@asynccontextmanager
async def kettle(folder: Path) -> AsyncIterator[str]:
    """The address of Kettle & Leaf, the bundled shop, in its newest release without its fault."""
    deploy(folder, "1.1")
    async with served(build_app(folder, 0.0)) as url:
        yield url


@asynccontextmanager
async def shop() -> AsyncIterator[str]:
    """The address of the shop."""
    app = web.Application()
    app.add_routes([web.get("/", _page), web.get("/basket", _basket), web.post("/ajax/order", _order), web.post("/ajax/broken", _broken)])
    async with served(app) as url:
        yield url


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ROOT_ARGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def stage(
    browser: Browser, url: str, *, stop_before: str = "", within: float = 15.0, refused: str = "",
) -> AsyncIterator[Stage]:
    context = await browser.new_context(base_url=url)
    page = await context.new_page()
    expect.set_options(timeout=1000 * within)

    async def told(step: str, state: str, seconds: float, reason: str) -> None:
        found.told.append((step, state, reason))

    async def nothing() -> None:
        return None

    async def ask() -> str:
        found.asked += 1
        return refused

    hooks = Hooks(entered=lambda _: None, told=told, settle=nothing, reason=lambda error: type(error).__name__, ask=ask, halt=nothing)
    secrets = {"card": SECRET}
    found = Stage(page, Flow(page, url, Limits(stop_before, within), {"run": "r7"}, secrets, hooks))
    try:
        yield found
    finally:
        await context.close()
