"""The listener: enter it to serve, leave it to stop."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from monitor.web import problems
from monitor.web.api import Api
from monitor.web.settings import WebSettings

BODY_LIMIT = 64 * 1024
STOP_SECONDS = 2.0


@asynccontextmanager
async def serve(settings: WebSettings, api: Api) -> AsyncIterator[int]:
    """Serve the API; gives the port that was bound. Raises OSError when the address cannot be had."""
    application = web.Application(middlewares=[problems.middleware], client_max_size=BODY_LIMIT)
    application.add_routes(api.routes())
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=_tls(settings), reuse_address=True)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _tls(settings: WebSettings) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls.cert_file, settings.tls.key_file)
    return context
