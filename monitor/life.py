"""The life of the process: rooms are entered in order and left in reverse, within one deadline; systemd is told how it goes."""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, TypeVar

import structlog

from monitor import systemd

log = structlog.get_logger()
T = TypeVar("T")

LAST_RESORT_SECONDS = 9.5      # after the first word of the end; then the process ends, whatever has not stopped
FLUSH_SECONDS = 0.3            # for the last words, if nobody reads them
UNEXPECTED = 70                # exit code
LOOK_SECONDS = 1.0
STUCK_SECONDS = 5.0            # a part that has not moved for so long keeps the watchdog from being told that all is well
SLOW_LEAVING = 1.0             # s; a room that took longer to leave is named
START_SECONDS = 15.0           # by which a start that still goes on is prolonged


class DiedError(Exception):
    """The daemon ended itself: it could not go on with what it promises."""


class Life:
    """Rooms entered one after the other; a signal or a death ends it, and then they are left in reverse.

    A first SIGTERM or SIGINT begins the end, each further one gives up waiting for the room that is being left.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._over = asyncio.Event()
        self._failure: BaseException | None = None
        self._signals = 0
        self._serving = False
        self._leaving = "the start"
        self._main: asyncio.Task[Any] | None = None

    @property
    def serving(self) -> bool:
        """All rooms are entered, and the end has not begun."""
        return self._serving and not self._over.is_set()

    def hear(self, hangup: Callable[[], None]) -> None:
        """Take the signals; `hangup` is what SIGHUP does."""
        loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, hangup)
        loop.set_exception_handler(self._unexpected)

    async def enter(self, name: str, room: AbstractAsyncContextManager[T]) -> T:
        """Enter a room, to be left when its turn comes."""
        entered = await room.__aenter__()
        self._stack.push_async_exit(self._named(name, room))
        return entered

    def before_leaving(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` when the rooms entered later have been left."""
        async def leave(*_: object) -> None:
            await work()
        self._stack.push_async_exit(self._timed(name, leave))

    def beside(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the rest until its turn to be left comes. Its death ends the daemon."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)

        async def leave(*_: object) -> None:
            task.cancel()
            await asyncio.wait([task])
        self._stack.push_async_exit(self._timed(name, leave))

    async def serve(self, rooms: Callable[[], Awaitable[None]], ready: Callable[[], None]) -> None:
        """Enter `rooms`, go on until a signal or a death, leave. Raises what kept a room from being entered, or DiedError."""
        try:
            async with self._stack:
                await rooms()
                self._serving = True
                ready()
                await self._over.wait()
        except asyncio.CancelledError:
            if not self._signals:
                raise
            self._forgive()                                      # our own hastening, and no wish of anybody else
        except BaseExceptionGroup as group:                      # a room with a task group wraps what flies through it
            raise _alone(group) from None
        self._leaving = ""
        if self._failure:
            raise DiedError(f"something that must not die has died: {self._failure}") from self._failure

    def fail(self, error: BaseException) -> None:
        """Something has died without which the daemon does not keep its promises."""
        self._failure = self._failure or error
        self._end(f"died: {type(error).__name__}")

    def _signalled(self, name: str) -> None:
        self._signals += 1
        self._end(name)
        if self._signals > 1:
            log.warning("hastened", signal=name, left_alone=self._leaving)
        if self._main and (self._signals > 1 or not self._serving):
            self._main.cancel()

    def _end(self, why: str) -> None:
        if self._over.is_set():
            return
        self._over.set()
        log.info("stopping", why=why)
        systemd.stopping()
        last = threading.Timer(LAST_RESORT_SECONDS, last_resort, [lambda: self._leaving])
        last.daemon = True
        last.start()

    def _forgive(self) -> None:
        while self._main and self._main.cancelling():
            self._main.uncancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self._over.is_set():
            self.fail(task.exception() or RuntimeError(f"{task.get_name()} ended"))

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught, in a callback: the state cannot be trusted, so systemd shall start anew."""
        log.error("unexpected error", what=context.get("message"), exc_info=context.get("exception"))
        if isinstance(context.get("exception"), Exception) and "handle" in context:
            self.fail(context["exception"])

    def _named(self, name: str, room: AbstractAsyncContextManager[Any]) -> Callable[..., Awaitable[bool | None]]:
        return self._timed(name, room.__aexit__)

    def _timed(self, name: str, leave: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def left(*error: Any) -> Any:
            self._leaving, begun = name, asyncio.get_running_loop().time()
            try:
                return await leave(*error)
            finally:
                seconds = asyncio.get_running_loop().time() - begun
                if seconds > SLOW_LEAVING:
                    log.warning("slow to stop", part=name, seconds=round(seconds, 1))
        return left


def last_resort(leaving: Callable[[], str]) -> None:
    """End the process now, and say what has not stopped. With 0 if all rooms were left, and only a thread of no importance is not done."""
    code = UNEXPECTED if leaving() else 0
    silent = threading.Timer(FLUSH_SECONDS, os._exit, [code])       # should the last words get stuck, too
    silent.daemon = True
    silent.start()
    if code:
        log.error("did not stop in time", left_alone=leaving())
        faulthandler.dump_traceback(all_threads=True)
    sys.stderr.flush()
    os._exit(code)


async def tell_systemd(stuck: Callable[[], Mapping[str, float]], status: Callable[[], str]) -> None:
    """For ever: that we live, as long as every part moves (`stuck`: for how many s each has not), and how we are in a line."""
    interval = systemd.watchdog_interval()
    limit = min(STUCK_SECONDS, interval / 2) if interval else STUCK_SECONDS
    said, still, pinged, loop = "", [""], -1e9, asyncio.get_running_loop()
    while True:
        standing = sorted(part for part, seconds in stuck().items() if seconds > limit)
        if standing != still and standing:
            log.error("stands still", parts=standing)
        still = standing
        if interval and not standing and loop.time() - pinged >= interval / 4:
            systemd.watchdog()
            pinged = loop.time()
        text = f"stands still: {', '.join(standing)}" if standing else status()
        if text != said:
            systemd.status(text)
            said = text
        await asyncio.sleep(min(LOOK_SECONDS, interval / 4) if interval else LOOK_SECONDS)


@contextmanager
def starting() -> Iterator[None]:
    """While this lasts systemd is told that the start takes longer: a large database is brought to a new schema."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(START_SECONDS / 3):
            systemd.extend(START_SECONDS)
    threading.Thread(target=tell, name="starting", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _alone(error: BaseException) -> BaseException:
    """The error itself, when nothing else went wrong with it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
