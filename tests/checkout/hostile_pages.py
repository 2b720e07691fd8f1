"""A small shop on loopback of which some pages do what no page should."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

FINE = "<title>Shop</title><h1>Shop</h1><button>Buy</button>"
PAGES = {
    "/": FINE,
    "/loop": f"{FINE}<script>setTimeout(() => {{ while (true) {{}} }}, 50)</script>",
    "/alerts": f"{FINE}<script>setInterval(() => alert('again'), 1); onbeforeunload = event => event.preventDefault()</script>",
    "/windows": f"{FINE}<script>setInterval(() => open('/', '_blank'), 20)</script>",
    "/memory": f"{FINE}<script>const kept = []; setInterval(() => kept.push(new Uint8Array(30e6).fill(7)), 10)</script>",
    "/downloads": f"{FINE}<a href=/endless download=x>x</a><script>setInterval(() => document.querySelector('a').click(), 50)</script>",
}


async def _page(request: web.Request) -> web.Response:
    return web.Response(text=PAGES[request.path], content_type="text/html")


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Disposition": "attachment; filename=x.bin", "Content-Type": "application/octet-stream"})
    await response.prepare(request)
    try:
        for _ in range(500):
            await response.write(b"\0" * 1_000_000)
    except ConnectionError:
        pass
    return response


async def _never(_: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    return web.Response()


@asynccontextmanager
async def hostile_shop() -> AsyncIterator[str]:
    """Its address."""
    app = web.Application()
    app.router.add_get("/endless", _endless)
    app.router.add_get("/never", _never)
    for path in PAGES:
        app.router.add_get(path, _page)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
