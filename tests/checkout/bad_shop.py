"""A small shop on loopback whose pages have one fault each, all that shops have taught us, and some that are out to hurt."""

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trustme
from aiohttp import web
from playwright.async_api import Browser, async_playwright

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
SHOP, OTHER, HIDDEN = "shop.example", "third.example", "ads.example"       # the browser resolves the first two only
RULES = f"--host-resolver-rules=MAP {SHOP} 127.0.0.1, MAP *.{SHOP} 127.0.0.1, MAP {OTHER} 127.0.0.1, MAP * ~NOTFOUND"

CLOSED = web.AppKey("CLOSED", asyncio.Event)
PORT = web.AppKey("PORT", list[int])
_PAGE = "<!doctype html><html><head><title>{title}</title>{head}</head><body><h1>{heading}</h1>{body}</body></html>"


def page(body: str = "", *, head: str = "", title: str = "A shop", heading: str = "Blue shirt") -> str:
    """An HTML page."""
    return _PAGE.format(title=title, head=head, heading=heading, body=body)


def _script(code: str) -> str:
    return page(f"<script>{code}</script>")


HEALTHY = page(
    """<nav><a href="/two">Next</a></nav><p class="error" hidden>An error occurred</p>
    <div class="alert-danger" style="display:none">Internal Error</div>
    <div role="alert">Only 2 left, free shipping from 50 EUR</div><img src="/pixel.png" alt=""><button id="b" onclick="go()">Add to basket</button>
    <script type="application/ld+json">{"@type": "Product", "price": 12.5}</script>""",
    head='<link rel="stylesheet" href="/ok.css"><script src="/ok.js"></script><meta name="robots" content="index, follow">')

PAGES: dict[str, str] = {
    "/": HEALTHY,
    "/two": HEALTHY.replace("Blue shirt", "Error 404 mug").replace("A shop", "Error 404 mug - A shop"),
    "/page-error": _script("function broken() { return cart.total; } setTimeout(broken, 0);"),
    "/page-error-file": page('<script src="/wp-content/plugins/paynow/checkout.a81bc81b.js?ver=6.1"></script>'),
    "/thrown-text": _script("setTimeout(() => { throw 'just a text' }, 0)"),
    "/console": _script("console.error('payment widget 4711 is not configured'); console.warn('no'); console.log('no')"),
    "/css-nosniff": page(head='<link rel="stylesheet" href="/missing-nosniff.css">'),
    "/css-404": page(head='<link rel="stylesheet" href="/missing.css">'),
    "/js-html": page('<script src="/front-controller.js"></script>'),
    "/js-html-nosniff": page('<script src="/front-controller-nosniff.js"></script>'),
    "/js-500": page('<script src="/static/broken.3f2a9c1b.js?v=17"></script>'),
    "/js-cut": page('<script src="/cut.js"></script>'),
    "/image": page('<img src="/media/gone-123.jpg">'),
    "/xhr": _script("fetch('/api/cart/4711/add?token=abcdef123456', {method: 'POST'})"),
    "/xhr-cut": _script("fetch('/cut.json').catch(() => 0)"),
    "/xhr-gone": _script("fetch('/slow.json'); setTimeout(() => { location = '/' }, 50)"),
    "/json": _script("fetch('/?wc-ajax=checkout', {method: 'POST'})"),
    "/json-fine": _script("fetch('/fine.json'); fetch('/huge.json'); fetch('/endless.json')"),
    "/soft-title": page(title="Internal Error | A shop"),
    "/soft-heading": page(heading="Une erreur s’est produite"),
    "/soft-alert": page('<ul class="woocommerce-error"><li>There was an error processing your order. Please try again.</li></ul>'),
    "/soft-php": page("<p>Basket</p><br />\n<b>Warning</b>:  Undefined variable $x in <b>/srv/shop/index.php</b> on line <b>12</b><br />"),
    "/third": page(f'<script src="http://{OTHER}:PORT/widget.js"></script>'),
    "/third-500": page(f'<script src="http://{OTHER}:PORT/broken.js"></script>'),
    "/hidden": page(f'<script src="http://{HIDDEN}/pixel.js"></script><img src="http://{HIDDEN}/p.gif">'),
    "/inline": _script("var cart = {id: 4711, nonce: 'q9'}; window.total = cart.id + 1;"),
    "/inline-again": _script("var cart = {id: 9,  nonce: 'other'};\n window.total = cart.id + 12;"),
    "/inline-else": _script("var cart = {id: 9, nonce: 'other'}; navigator.sendBeacon(cart.id)"),
    "/again": _script("fetch('/api/cart/99/add?token=other', {method: 'POST'})"),
    "/blocked": page('<script src="/ok.js"></script>', head='<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'),
    "/cors": _script(f"fetch('http://{OTHER}:PORT/private.json').catch(() => 0)"),
    "/socket": _script(f"new WebSocket('ws://{OTHER}:PORT/socket')"),
    "/leaving": page('<script src="/slow.js"></script>', head="<script>setTimeout(() => { location = '/' }, 100)</script>"),
    "/loading": page("""<iframe src="/slow.json" title="Card"></iframe><script>
        addEventListener('load', () => { document.title = 'All there' })
        if (location.search) setTimeout(() => document.querySelector('iframe').remove(), 300)</script>"""),
    "/mixed": page('<script src="http://third.example:PORT/widget.js"></script>'),
    "/closed": page('<div class="woocommerce-coming-soon">Soon</div>'),
    "/noindex": page(head='<meta name="robots" content="NOINDEX, follow">'),
    "/frame": page('<iframe src="/frame-of-500" title="Card"></iframe>'),
    "/popup": page('<a id="terms" href="/gone" target="_blank">Terms</a>'),
    "/form": page("""<form><label>Card <input name="card" value="4111 1111 1111 1111"></label><input type="hidden" name="csrf" value="tok3n-in-form">
        <textarea>left at the door of Erika</textarea><p>Thank you, erika@mail.example</p><meta name="csrf-token" content="met4-token">
        <div data-mage-init="{&quot;form_key&quot;:&quot;k3y-in-data&quot;}"></div><script>var secret = "in-a-script"</script></form>"""),
    "/vitals": page("""<p style="height:40px">top</p><button id="b">Work</button><script>
        document.getElementById('b').addEventListener('click', () => { const end = performance.now() + 120; while (performance.now() < end); });
        const shift = () => { const e = document.createElement('div'); e.style.height = '300px'; document.body.prepend(e) };
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(shift, 60)))</script>"""),
    # out to hurt
    "/flood": _script("for (let i = 0; i < 5000; i++) console.error('flood ' + 'abcdefgh'[i % 8].repeat(50))"),
    "/huge": page("<div role='alert'>" + "x" * 3_000_000 + "</div>", title="y" * 500_000),
    "/overridden": _script("""
        JSON.stringify = () => 'x'; performance.getEntriesByType = () => { throw 1 }; window.requestAnimationFrame = () => 0;
        Array.prototype.push = () => 0; Array.prototype.toJSON = () => 'nothing'; Object.prototype.toJSON = () => 'nothing';
        String.prototype.slice = () => 'z'.repeat(1e6); Element.prototype.getAttribute = () => 'z'; Set = Promise = undefined;
        Object.defineProperty(Node.prototype, 'textContent', {get() { return 'z'.repeat(1e6) }})"""),
    "/no-map": _script("Map = undefined"),
    "/lies": _script("""
        for (const key of Object.getOwnPropertyNames(window)) try {
            if (key.startsWith('tw')) window[key] = () => '{"ttfb": 1e99, "title": 7}'
        } catch (e) {}
        Object.defineProperty(PerformanceResourceTiming.prototype, 'responseStart', {get: () => 'x'});
        Object.defineProperty(PerformanceEntry.prototype, 'startTime', {get: () => 1e300})"""),
    "/loop": page("<script>setTimeout(() => { for (;;); }, 100)</script>"),
    "/throwing": _script(
        "let n = 0; const t = setInterval(() => { if (++n > 300) clearInterval(t); throw new Error('again ' + 'abcdefgh'[n % 8]) }, 0)"),
    "/asking": _script("(async () => { for (let i = 0; i < 2500; i++) await fetch('/fine.json?' + i) })()"),
}

HTML, JS, CSS, JSON = "text/html", "text/javascript", "text/css", "application/json"
_NOSNIFF = {"X-Content-Type-Options": "nosniff"}
# path: (status, content type, body, headers)
FILES: dict[str, tuple[int, str, str, dict[str, str]]] = {
    "/ok.css": (200, CSS, "h1 { color: navy }", {}),
    "/ok.js": (200, JS, "function go() { fetch('/fine.json') }", {}),
    "/pixel.png": (200, "image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>", {}),
    "/missing-nosniff.css": (404, HTML, page("not here"), _NOSNIFF),
    "/missing.css": (404, HTML, page("not here"), {}),
    "/front-controller.js": (200, HTML, page("home"), {}),
    "/front-controller-nosniff.js": (200, HTML, page("home"), _NOSNIFF),
    "/static/broken.3f2a9c1b.js": (500, HTML, "oops", {}),
    "/wp-content/plugins/paynow/checkout.a81bc81b.js": (200, JS, "setTimeout(() => { null.pay() }, 0)", {}),
    "/api/cart/4711/add": (500, JSON, '{"success": false}', {}),
    "/wc-ajax": (200, JSON, '{"result":"failure","messages":"<ul><li>Card 4111 1111 1111 1111 was refused</li></ul>","refresh":false}', {}),
    "/fine.json": (200, JSON, '{"success": true, "errors": [], "error": null, "message": "An error-free day"}', {}),
    "/huge.json": (200, JSON, '{"success": false, "x": "' + "x" * 100_000 + '"}', {}),
    "/widget.js": (200, JS, "window.widget = 1", {}),
    "/private.json": (200, JSON, "{}", {}),
    "/broken.js": (503, HTML, "no", {}),
    "/frame-of-500": (500, HTML, page("oops"), {}),
    "/empty-500": (500, HTML, "", {}),
    "/gone": (404, HTML, page("nothing here", title="404"), {}),
    "/maintenance": (503, HTML, page(title="Wartungsarbeiten"), {"Retry-After": "600"}),
    "/wall": (403, HTML, "<title>Just a moment...</title>", {"cf-mitigated": "challenge"}),
    "/noindex-header": (200, HTML, page(), {"X-Robots-Tag": "noindex"}),
}


@dataclass
class BadShop:
    """Where it stands."""

    port: int
    tls_port: int

    def url(self, path: str, host: str = SHOP) -> str:
        return f"http://{host}:{self.port}{path}"

    def tls_url(self, path: str, host: str = SHOP) -> str:
        return f"https://{host}:{self.tls_port}{path}"


async def _answer(request: web.Request) -> web.StreamResponse:
    if "wc-ajax" in request.query:
        status, kind, body, headers = FILES["/wc-ajax"]
    elif request.path in FILES:
        status, kind, body, headers = FILES[request.path]
    elif request.path in PAGES:
        status, kind, body, headers = 200, HTML, PAGES[request.path].replace("PORT", str(request.app[PORT][0])), {}
    else:
        return web.Response(status=404)
    cors = {} if request.path == "/private.json" else {"Access-Control-Allow-Origin": "*"}
    return web.Response(status=status, body=body.encode(), content_type=kind, charset="utf-8", headers=headers | cors)


async def _cut(request: web.Request) -> web.StreamResponse:
    """The connection ends in the middle of the answer."""
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    answer.content_type = JS
    await answer.prepare(request)
    await answer.write(b"window.cut = 1")
    assert request.transport is not None
    request.transport.close()
    return answer


async def _endless(request: web.Request) -> web.StreamResponse:
    """The answer begins and does not end while the shop stands."""
    answer = web.StreamResponse()
    answer.content_type = JSON
    await answer.prepare(request)
    await answer.write(b'{"success": false, "never": "')
    await request.app[CLOSED].wait()
    return answer


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, which finds the shop and one other host, and nothing else."""
    arguments = [RULES, *(["--no-sandbox"] if os.geteuid() == 0 else [])]         # Chromium's sandbox cannot be had as root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


@asynccontextmanager
async def bad_shop() -> AsyncIterator[BadShop]:
    """The shop, at a free port."""
    app = web.Application()
    app[CLOSED], app[PORT] = asyncio.Event(), []
    for path in ("/endless.json", "/slow.json", "/slow.js"):
        app.router.add_route("*", path, _endless)
    app.router.add_route("*", "/cut.js", _cut)
    app.router.add_route("*", "/cut.json", _cut)
    app.router.add_route("*", "/{path:.*}", _answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(SHOP).configure_cert(context)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port, tls_port = (address[1] for address in runner.addresses)
    app[PORT].append(port)
    try:
        yield BadShop(port, tls_port)
    finally:
        app[CLOSED].set()
        await runner.cleanup()
