"""The door: how many may come in, how long they may take over their requests, and how large those may be."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from monitor.web.problems import ProblemError

log = structlog.get_logger()

BODY_LIMIT = 64 * 1024    # bytes of a request's body
BODY_SECONDS = 10.0       # within which it must be there
HEAD_SECONDS = 10.0       # within which a new connection must have said what it wants
KEEP_SECONDS = 75.0       # a connection without a request is kept so long; longer than reverse proxies keep theirs
LINGER_SECONDS = 0.5      # the rest of a refused body is read so long, so that the answer is heard
PATIENCE_SECONDS = 10.0   # a request may be cut off for newcomers after this, when all places are taken
READ_SECONDS = 120.0      # for a GET with its whole answer: who does not read it is let go
MOST_CONNECTIONS = 256    # a file descriptor each, and some 30 kB
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Visitor(web.RequestHandler):
    """One connection."""

    __slots__ = ("_door",)

    def __init__(self, door: "Door", manager: web.Server, **how: Any) -> None:
        super().__init__(manager, **how)
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.leave(self)
        super().connection_lost(exc)

    def turn_out(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None,
    ) -> web.StreamResponse:
        """What is no request, and our own faults. aiohttp would answer the one with a piece of what it has read, and log both with a trace."""
        if isinstance(exc, HttpProcessingError):
            large = isinstance(exc, LineTooLong) or "Too many" in (message or "")
            problem = ProblemError(431, "the head of the request is too large") if large else ProblemError(400, "this is not valid HTTP")
        else:
            log.error("a request failed unexpectedly", path=request.path, exc_info=exc)
            problem = ProblemError(500 if status == 500 else 503, "Tillwatch could not answer: its log has more")
        if request.writer.output_size:
            raise ConnectionError("a part of the answer is gone already")
        response = problem.response()
        response.force_close()
        return response


class Door:
    """All connections. Where all places are taken, whoever has been idle for the longest makes room."""

    def __init__(self) -> None:
        self._idle: dict[web.RequestHandler, asyncio.TimerHandle | None] = {}     # the longest idle first
        self._busy: dict[web.RequestHandler, float] = {}                          # since when

    def visitor(self, manager: web.Server) -> Visitor:
        """A connection's protocol. Bodies are not unpacked: nobody sends us any that must be."""
        return Visitor(self, manager, loop=asyncio.get_running_loop(), access_log=None, keepalive_timeout=KEEP_SECONDS,
                       lingering_time=LINGER_SECONDS, auto_decompress=False)

    def enter(self, visitor: Visitor) -> None:
        loop = asyncio.get_running_loop()
        if len(self._idle) + len(self._busy) >= MOST_CONNECTIONS:
            self._make_room(visitor)
        self._idle[visitor] = loop.call_later(HEAD_SECONDS, visitor.turn_out)

    def leave(self, visitor: web.RequestHandler) -> None:
        self._busy.pop(visitor, None)
        if timer := self._idle.pop(visitor, None):
            timer.cancel()

    def _make_room(self, newcomer: Visitor) -> None:
        longest = next(iter(self._idle), None)
        if longest is None:
            longest, since = next(iter(self._busy.items()))
            if asyncio.get_running_loop().time() - since < PATIENCE_SECONDS:
                longest = newcomer
        if isinstance(longest, Visitor):
            self.leave(longest)
            longest.turn_out()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request is under way: its body is read, and then it is answered."""
        visitor = request.protocol
        self.leave(visitor)
        self._busy[visitor] = asyncio.get_running_loop().time()
        try:
            await _take_body(request)
            if request.method != "GET":          # a change is never left half done
                return await handler(request)
            async with asyncio.timeout(READ_SECONDS):
                return await handler(request)
        finally:
            if self._busy.pop(visitor, None) is not None:
                self._idle[visitor] = None


async def _take_body(request: web.Request) -> None:
    """Read the body, or refuse it before. Raises ProblemError, or HTTPRequestEntityTooLarge."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise ProblemError(415, "the body must not be compressed")
    if "Transfer-Encoding" in request.headers:          # pieces of unsaid length are how one request hides within another
        raise ProblemError(411, "say how long the body is: Content-Length")
    if (request.content_length or 0) > BODY_LIMIT:
        raise ProblemError(413, f"the body is larger than {BODY_LIMIT} bytes")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await request.read()
    except TimeoutError:
        raise ProblemError(408, f"the body was not there within {BODY_SECONDS:.0f} s") from None
