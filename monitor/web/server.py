"""The listener: enter it to serve, leave it to stop."""

import asyncio
import ipaddress
import ssl
from collections.abc import Iterable
from typing import Self
from urllib.parse import urlsplit

from aiohttp import web

from monitor.web import problems
from monitor.web.auth import foreign
from monitor.web.door import BODY_LIMIT, Door, Handler
from monitor.web.settings import TlsSettings, WebSettings

STOP_SECONDS = 1.0
BACKLOG = 128             # connections that wait to be taken


class Listener:
    """Serves these routes while it is entered; `port` is the one that was bound. Entering raises OSError when the address cannot be had."""

    def __init__(self, settings: WebSettings, routes: Iterable[web.RouteDef]) -> None:
        self.port, self._settings = settings.port, settings
        self._context = tls_context(settings.tls) if settings.tls else None
        self._door = Door()
        self._server: asyncio.Server | None = None
        middlewares = [problems.middleware, self._own_names, self._door.middleware]
        application = web.Application(middlewares=middlewares, client_max_size=BODY_LIMIT)
        application.on_response_prepare.append(problems.safe_headers)
        application.add_routes(routes)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS, handle_signals=False)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._visitor, self._settings.host, self._settings.port, ssl=self._context, reuse_address=True, backlog=BACKLOG)
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
        await self._runner.cleanup()

    def _visitor(self) -> web.RequestHandler:
        assert self._runner.server  # noqa: S101 - it was set up before
        return self._door.visitor(self._runner.server)

    def change(self, settings: WebSettings) -> None:
        """Take another name of our own, and certificate and key as the files hold them now. Raises OSError when they cannot be used."""
        self._settings = settings
        if self._context and settings.tls:
            self._context.load_cert_chain(settings.tls.cert_file, settings.tls.key_file)      # heard by every handshake from now on

    @web.middleware
    async def _own_names(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """On loopback everybody on this host may read, so a name that somebody else's DNS leads here must not be served.

        Nor does a page of somebody else's get a change made.
        """
        named = urlsplit(self._settings.url).hostname
        try:
            host = urlsplit(f"//{request.host}").hostname or ""
        except ValueError:
            host = ""
        if self._settings.tls is None and host not in {"localhost", named} and not _is_address(host):
            raise problems.ProblemError(403, f"{host[:100]} is not a name of this daemon: set [web] url to the address that people use")
        if foreign(request, {request.host, urlsplit(self._settings.url).netloc}):
            raise problems.ProblemError(403, "a page of another site asks for this change")
        return await handler(request)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """For the listener. Raises OSError when certificate or key cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
