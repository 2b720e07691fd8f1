"""`tillwatch browser --listen SOCKET`: the browser as a service of its own, for the daemons that may open its socket.

A flow is a program, so who may open the socket may do what this service may do; the file's mode and group say who that is.
"""

import asyncio
import errno
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from probes.checkout import frames
from probes.checkout.frames import FrameError
from probes.checkout.job import VERSION, Job
from probes.checkout.keeper import Keeper
from probes.checkout.settings import BrowserSettings
from probes.checkout.talk import SENDING

MODE = 0o660
_LARGEST_JOB = 4 * 1024 * 1024   # bytes: a flow's source has at most one million
_KEPT = re.compile(r"[0-9a-f]{16}")
_LONGEST = 3600.0                # s that a run may take
_ASKING = 10.0                   # s for a client to say what it wants
_CLIENTS = 32                    # at a time
_BACKLOG = 2 * frames.LARGEST    # bytes that a client may be behind before it counts as gone


class ServedError(Exception):
    """The socket cannot be served; the text says why."""


async def serve(path: Path, settings: BrowserSettings, *, ready: Callable[[], object] = lambda: None, keeper: Keeper | None = None) -> None:
    """Run flows for whoever connects, one after the other, until SIGTERM or SIGINT, or until it is cancelled.

    `ready` is called when it listens. Raises ServedError.
    """
    listening = _bind(path)
    service = _Service(keeper or Keeper(settings))
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_unix_server(service.connected, sock=listening)
    try:
        ready()
        await stop.wait()
    finally:
        server.close()
        await service.close()
        _remove(path)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _bind(path: Path) -> socket.socket:
    """A socket at this path. One that a server left behind is replaced, one at which a server listens is not."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~MODE)                        # from the first moment on
    try:
        _make_room(path)
        listening.bind(str(path))
        listening.listen(_CLIENTS)
    except OSError as error:
        listening.close()
        raise ServedError(f"{path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    listening.setblocking(False)
    return listening


def _make_room(path: Path) -> None:
    """Raises OSError."""
    if path.is_socket():
        if _served(path):
            raise OSError(errno.EADDRINUSE, "another one serves there already")
        path.unlink()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:                                   # full, or not ours to open: somebody is there
            return True
    return True


class _Service:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper, self._turn = keeper, asyncio.Lock()
        self._clients: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has come."""
        if len(self._clients) >= _CLIENTS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name="browser client")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def close(self) -> None:
        """Send all away, and end the browser."""
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        await self._keeper.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One run for one client. Whoever is not understood is sent away; a client that is gone has its run ended."""
        try:
            async with asyncio.timeout(_ASKING):
                await frames.write(writer, {"t": "hello", "version": VERSION, "pid": os.getpid()})
                job = _at_home(_asked(await frames.read(reader, _LARGEST_JOB)))
            await _Client(reader, writer).serve(job, self._keeper, self._turn)
            async with asyncio.timeout(SENDING):
                writer.close()
                await writer.wait_closed()
        except (FrameError, OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()


def _at_home(job: Job) -> Job:
    """What a returning customer's browser keeps is kept by whoever runs it: in this service's own folder, where systemd gives it one."""
    folder, name = os.environ.get("STATE_DIRECTORY", ""), Path(job.profile_dir).name
    return replace(job, profile_dir=str(Path(folder) / "profiles" / name) if folder and _KEPT.fullmatch(name) else "")


class _Client:
    """Whoever waits for a run."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._may: asyncio.Future[str] | None = None

    async def serve(self, job: Job, keeper: Keeper, turn: asyncio.Lock) -> None:
        """Raises FrameError and OSError when the client is gone or is not understood: the run has then been ended."""
        running = asyncio.create_task(self._run(job, keeper, turn), name="run for a client")
        hearing = asyncio.create_task(self._hear(), name="words of a client")
        try:
            done, _ = await asyncio.wait([running, hearing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, hearing):
                task.cancel()
            await asyncio.wait([running, hearing])
        for task in done:
            task.result()

    async def _run(self, job: Job, keeper: Keeper, turn: asyncio.Lock) -> None:
        async with turn:
            await self._send({"t": "turn"})
            report = await keeper.run(job, self._told, self._ask)
        await self._send({"t": "done", "report": report.to_dict(), "memory": 0})

    async def _hear(self) -> None:
        while True:
            message = await frames.read(self._reader, _LARGEST_JOB)
            if message["t"] != "go":
                raise FrameError("it says what has no place")
            if self._may and not self._may.done():
                self._may.set_result(message["why"])

    async def _send(self, message: Mapping[str, Any]) -> None:
        async with asyncio.timeout(SENDING):
            await frames.write(self._writer, message)

    def _told(self, message: Mapping[str, Any]) -> None:
        if self._writer.transport.get_write_buffer_size() > _BACKLOG:
            self._writer.transport.abort()                # it does not listen: what it would say is read as its end
        else:
            self._writer.write(frames.encode(message))

    async def _ask(self) -> str:
        self._may = asyncio.get_running_loop().create_future()
        await self._send({"t": "guard"})
        return await self._may


def _asked(message: Mapping[str, Any]) -> Job:
    if message["t"] != "run" or message["version"] != VERSION:
        raise FrameError("it asks for nothing that this version does")
    try:
        job = Job.from_dict(message["job"])
        if 0 < job.timeout <= _LONGEST:                   # the rest is for the worker, which may die of it
            return job
    except (TypeError, KeyError, AttributeError):
        pass
    raise FrameError("this is no job")
