"""From a host name to a connection on which aiohttp reads the answer: resolve, TCP and TLS timed apart.

Why this is not aiohttp's session and connector: their machinery (request object, header and cookie merging, timers,
pool) is as dear as all the rest of a plain probe together, and asyncio's TLS allocates 256 KiB a connection. Measured
by bench/http_probe.py. What reads the answer (framing, limits, decompression, back-pressure) is aiohttp's own
`ResponseHandler`; tests/probes/test_aiohttp.py notices when a new version changes what is used of it here.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from time import perf_counter
from typing import Any, cast

import aiohappyeyeballs
from aiohttp.client_proto import ResponseHandler

Address = tuple[str, int] | tuple[str, int, int, int]
AddressInfo = tuple[int, int, int, str, Address]

_AFTER = 0.25               # s until the next address is tried beside a silent one (RFC 8305)
_ADDRESSES = 32             # more of a name's addresses than that are not tried
_READ = 65_536              # bytes read at once; more than a TLS record, so that none is left waiting inside OpenSSL
_BUFFER = 65_536            # bytes decoded ahead of the reader: what a decompression bomb can cost at a time
_INTERIM = 32               # interim answers (103 Early Hints and the like) before the answer itself


class FloodError(OSError):
    """The server sends and sends, and it becomes no page."""


class Stopwatch:
    """Where the time of a run goes. Phases that come again (redirects) add up."""

    __slots__ = ("phase", "since", "spent", "started")

    def __init__(self) -> None:
        self.started = self.since = perf_counter()
        self.phase = "resolve"
        self.spent = {"resolve": 0.0, "connect": 0.0, "tls": 0.0, "processing": 0.0, "transfer": 0.0}

    def enter(self, phase: str, at: float = 0.0) -> None:
        """End the phase that runs and begin another, now or at an instant that has just passed."""
        now = at or perf_counter()
        self.spent[self.phase] += now - self.since
        self.phase, self.since = phase, now

    def skip(self) -> None:
        """Leave out the time since the phase began: it was spent on ourselves."""
        passed = perf_counter() - self.since
        self.since += passed
        self.started += passed

    def stop(self) -> float:
        """End the last phase; the seconds that the whole run took."""
        self.enter(self.phase)
        return self.since - self.started


async def connect(addresses: Sequence[AddressInfo]) -> socket.socket:
    """A socket connected to the first address that answers. Raises OSError when none does.

    One address is dialled directly; of several the next is tried beside the first after 250 ms or at its failure.
    """
    loop = asyncio.get_running_loop()
    if len(addresses) > 1:
        return await aiohappyeyeballs.start_connection(addresses[:_ADDRESSES], happy_eyeballs_delay=_AFTER, loop=loop)
    family, kind, protocol, _, address = addresses[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        await _dial(loop, sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _dial(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: Address) -> None:
    # By hand: the loops' own sock_connect() looks at the address again, as if it could be a name.
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        await _ready(loop, sock.fileno(), "write")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


async def handshake(sock: socket.socket, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
    """The same connection with TLS on it. Raises ssl.SSLError or OSError, and then the connection is closed."""
    loop = asyncio.get_running_loop()
    try:
        tls = context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        while wait := _shake(tls):
            await _ready(loop, tls.fileno(), wait)
    except BaseException:
        tls.close()
        raise
    return tls


def _shake(tls: ssl.SSLSocket) -> str:
    """One step of a handshake: what it waits for, "" when it is done."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return "read"
    except ssl.SSLWantWriteError:
        return "write"
    return ""


async def _ready(loop: asyncio.AbstractEventLoop, descriptor: int, wait: str) -> None:
    """Return when the descriptor can be read or written."""
    ready: asyncio.Future[None] = loop.create_future()
    if wait == "read":
        loop.add_reader(descriptor, _wake, ready)
    else:
        loop.add_writer(descriptor, _wake, ready)
    try:
        await ready
    finally:
        (loop.remove_reader if wait == "read" else loop.remove_writer)(descriptor)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Wire(asyncio.Transport):
    """A transport straight on a non-blocking socket, plain or TLS, for one request and its answer.

    Of the answer at most `most` bytes are read, as they come on the line. The page that they become is bounded by its
    reader, but blank lines, chunk extensions or empty compressed blocks become none, and would cost a whole processor.
    """

    __slots__ = (
        "_body", "_closed", "_fd", "_left", "_looking", "_loop", "_most", "_out", "_parser", "_reading", "_sock", "_told", "_writing", "fault",
        "heard",
    )

    def __init__(self, sock: socket.socket, *, has_body: bool, most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = self._left = most
        self._sock = sock
        self._fd = sock.fileno()
        self._out = b""
        self._reading = self._writing = self._closed = self._told = self._looking = False
        self.heard = 0.0                             # perf_counter() at the first byte of the answer
        self.fault: Exception | None = None          # what ended the connection, as the system told it, or what is wrong with the answer
        self._body: Any = None
        self._parser = ResponseHandler(self._loop)
        self._parser.connection_made(self)
        self._parser.set_response_params(skip_payload=not has_body, read_until_eof=True, read_bufsize=_BUFFER)
        self.resume_reading()

    async def head(self) -> tuple[Any, Any]:
        """Status and headers of the answer (aiohttp's RawResponseMessage), and the stream of its decoded body."""
        for _ in range(_INTERIM + 1):
            message, body = await self._parser.read()
            if not 100 <= message.code < 200 or message.code == 101:
                self._body = body
                self._spoil()
                return message, body
        raise FloodError(f"more than {_INTERIM} interim answers ({message.code}) and no answer after them")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send the request; what the kernel does not take at once follows when it can."""
        self._out += bytes(data)
        self._writable()

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        self._out = self._out[sent:]
        self._watch_writing(bool(self._out))

    def _watch_writing(self, wanted: bool) -> None:
        if wanted == self._writing or self._closed:
            return
        self._writing = wanted
        if wanted:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        # Of data and a reset that are there together uvloop tells once and never again, and the run would wait until its
        # time is up. So after data there is a further read, for the reset; by then most answers are complete and need none.
        if self._receive() and not self._looking:
            self._looking = True
            self._loop.call_soon(self._again)

    def _again(self) -> None:
        self._looking = False
        if self._reading:
            self._readable()

    def _receive(self) -> bool:
        """Read once; whether there was something, and there may be more."""
        try:
            data = self._sock.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            self._lost(error)
            return False
        if not data:
            self._lost(None)
            return False
        if not self.heard:
            self.heard = perf_counter()
        self._left -= len(data)
        if self._left < 0:
            self._lost(FloodError(f"more than {self._most} bytes on the line, and still no whole page"))
            return False
        self._parser.data_received(data)
        if self._closed and not self._told:          # what came is not HTTP
            self.fault = cast("Exception | None", self._parser.exception())
            self._tell(None)
            self._spoil()
        return True

    def _spoil(self) -> None:
        """aiohttp tells who waits for a head that the answer is no HTTP, but not who reads the body, and would have that wait for ever."""
        if self.fault is not None and self._body is not None and not self._body.is_eof():
            self._body.set_exception(self.fault)

    def _lost(self, error: OSError | None) -> None:
        self.fault = error
        self.close()
        self._tell(error)

    def close(self) -> None:
        """Close the socket. aiohttp does so in the midst of reading, so it is told only by `abort()` that it is over."""
        if not self._closed:
            self.pause_reading()
            self._watch_writing(wanted=False)
            self._closed = True
            self._sock.close()

    def abort(self) -> None:
        """Close the connection now, and let the reader take its reference cycles apart."""
        self.close()
        self._tell(None)

    def _tell(self, error: OSError | None) -> None:
        if not self._told:
            self._told = True
            self._parser.connection_lost(error)

    def is_closing(self) -> bool:
        """Whether the connection is closed."""
        return self._closed

    def pause_reading(self) -> None:
        """Read nothing more until the reader has caught up."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Go on reading."""
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002
        """Nothing: aiohttp asks for the socket only to set TCP_NODELAY, and a request that is one write needs none."""
        return default
