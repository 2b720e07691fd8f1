"""The listener: enter it to serve, leave it to stop."""

import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from monitor.web import problems
from monitor.web.settings import WebSettings

BODY_LIMIT = 64 * 1024
STOP_SECONDS = 2.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(settings: WebSettings, routes: Iterable[web.RouteDef]) -> AsyncIterator[int]:
    """Serve these routes; gives the port that was bound. Raises OSError when the address cannot be had."""
    application = web.Application(middlewares=[problems.middleware, _own_names(settings)], client_max_size=BODY_LIMIT)
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=_tls(settings), reuse_address=True)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _own_names(settings: WebSettings) -> Middleware:
    """On loopback everybody on this host may read, so a name that somebody else's DNS leads here must not be served."""
    named = urlsplit(settings.url).hostname

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = urlsplit(f"//{request.host}").hostname or ""
        if settings.tls is None and host not in {"localhost", named} and not _is_address(host):
            raise problems.ProblemError(403, f"{host[:100]} is not a name of this daemon: set [web] url to the address that people use")
        return await handler(request)
    return check


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _tls(settings: WebSettings) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls.cert_file, settings.tls.key_file)
    return context
