"""A listener with some routes, for as long as a test asks it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from monitor.web.server import Listener
from monitor.web.settings import WebSettings


@asynccontextmanager
async def serve(settings: WebSettings, routes: Iterable[web.RouteDef]) -> AsyncIterator[int]:
    """Serve these routes; gives the port that was bound."""
    async with Listener(settings, routes) as listener:
        yield listener.port
