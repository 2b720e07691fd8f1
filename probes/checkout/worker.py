"""The browser worker: a process of its own, `python -m probes.checkout.worker FD BYTES`, that cannot harm the daemon whatever becomes of it.

It is two. A warden, which does next to nothing: it adopts what loses its parent, puts the browser behind others for the processor, and when the
worker has ended, takes too much memory, or the daemon's end of the socket is closed, it kills all that is below it, removes the temporary files
and ends. And the worker proper, its child, with Playwright's driver and one warm browser.
"""

import asyncio
import contextlib
import gc
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from playwright.async_api import Browser, Error, Playwright, async_playwright

from probes.checkout import browsers, engine, frames, processes
from probes.checkout.browsers import NoBrowserError
from probes.checkout.frames import FrameError
from probes.checkout.job import VERSION, Ask, Job, Launch, Report, Say
from probes.checkout.talk import SENDING
from probes.scrub import scrub

Run = Callable[[Browser, Job, Say, Ask, Mapping[str, Any]], Awaitable[Report]]

_LAUNCHING = 20.0          # s for driver and browser to stand: Firefox takes its time on a busy machine
_CLOSING = 3.0             # s for a browser to close that is replaced by another
_STOPPING = 0.8            # s in which a run that was told to stop has to
_TICK = 0.5                # s between two looks of the warden at the memory
_RARELY = 50               # times that a look takes pass until the next, at least
_LAG, _LAGGING = 0.1, 0.5  # s between two looks at the clock, and how late one must be for the machine to be called overloaded
_WEIGHED = 10              # runs from one weighing of the shared memory to the next
_HUNG = 70                 # exit code of a worker whose run did not let itself be stopped


def main(run: Run = engine.run) -> None:
    """Be the warden, and the worker below it. Ends the process."""
    number, most = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)          # systemd sends it to all of a unit: we end when the daemon does
    processes.be_humble()
    processes.adopt_orphans()
    gc.collect()
    gc.freeze()                                            # what both have is not copied only to be counted
    child = os.fork()
    if child:
        os._exit(_guard(child, number, most))
    processes.die_with_parent()
    asyncio.run(_serve(number, run))


# The warden ----------------------------------------------------------------------------------------------------------

def _guard(child: int, number: int, most: int) -> int:
    """Wait until it is over, and leave nothing. Gives the exit code."""
    waiting = select.poll()
    waiting.register(number, select.POLLRDHUP)
    with contextlib.suppress(OSError):                     # an old kernel: the next tick tells
        waiting.register(os.pidfd_open(child), select.POLLIN)
    sessions = set[int]()                                  # that are behind others already
    code, tick = None, _TICK
    while code is None:
        gone = waiting.poll(1000 * tick)
        began = monotonic()
        ended = processes.reap(but=[child])
        code = ended.get(child, 0 if any(fd == number for fd, _ in gone) else _look(most, sessions))
        tick = max(_TICK, _RARELY * (monotonic() - began))  # where thousands of processes run, a look takes its time
    _sweep()
    return code if code >= 0 else 128 - code


def _look(most: int, sessions: set[int]) -> int | None:
    """At all that is below: what is new steps back; an exit code, and words on stderr, when it takes more memory than it may."""
    among = processes.everything()
    mine = processes.below(os.getpid(), among)
    processes.step_back(mine, among, sessions)
    taken = sum(map(processes.private, mine))
    if taken <= most:
        return None
    _complain(f"the browser took {taken / 1e6:.0f} MB of memory, more than the {most / 1e6:.0f} MB that it may, and was ended")
    return 1


def _sweep() -> None:
    itself, directory = processes.look(os.getpid()), os.environ.get("TMPDIR", "")
    if itself:
        processes.end(itself, f"TMPDIR={directory}" if directory else "", 3.0)
    processes.reap()
    if "tillwatch-browser-" in directory:
        shutil.rmtree(directory, ignore_errors=True)


# The worker ----------------------------------------------------------------------------------------------------------

async def _serve(number: int, run: Run) -> None:
    connection = socket.socket(fileno=number)
    connection.set_inheritable(False)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    worker = _Worker(writer, run)
    try:
        await worker.say({"t": "hello", "version": VERSION, "pid": os.getpid()})
        while True:
            worker.hear(await frames.read(reader))
    except (FrameError, OSError) as error:
        if str(error) != "it ended":
            _complain(f"from the daemon: {error}")
        os._exit(0)                                        # at once: closing anything could hang, and the warden clears up


class _Worker:
    def __init__(self, writer: asyncio.StreamWriter, run: Run) -> None:
        self._writer, self._walk = writer, run
        self._sending = asyncio.Lock()
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._launch: Launch | None = None
        self._running: asyncio.Task[None] | None = None
        self._may: asyncio.Future[str] | None = None
        self._runs = self._shared = 0                      # and bytes of memory

    def hear(self, message: Mapping[str, Any]) -> None:
        """Act on what the daemon says. Raises FrameError when it has no place here."""
        match message["t"]:
            case "run" if message["version"] == VERSION and self._running is None:
                self._running = asyncio.create_task(self._run(_job(message["job"])), name="run")
                self._running.add_done_callback(self._over)
            case "cancel":
                if self._running:
                    self._running.cancel()
                    asyncio.get_running_loop().call_later(_STOPPING, self._hung, self._running)
            case "go":
                if self._may and not self._may.done():
                    self._may.set_result(message["why"])
            case other:
                raise FrameError(f'"{other}" has no place here')

    async def say(self, message: Mapping[str, Any]) -> None:
        """Tell the daemon. Raises FrameError when it is too much to be told, and OSError."""
        async with self._sending, asyncio.timeout(SENDING):
            await frames.write(self._writer, message)

    async def ask(self) -> str:
        """Whether the flow may submit: "", or why not."""
        self._may = asyncio.get_running_loop().create_future()
        await self.say({"t": "guard"})
        return await self._may

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._running = None
        if not task.cancelled() and (error := task.exception()):
            _die(error)

    def _hung(self, task: "asyncio.Task[None]") -> None:
        if not task.done():
            _complain("the flow did not let itself be stopped")
            os._exit(_HUNG)

    async def _run(self, job: Job) -> None:
        lag = asyncio.create_task(_lag(), name="lag")
        try:
            report = await self._report(job)
        except asyncio.CancelledError:
            report = Report("browser", "it was told to stop, because the run was not over long after its time", worn=True)
        lag.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            report.overloaded = await lag or report.overloaded
        if self._browser is None or not self._browser.is_connected():
            report.worn = True
        await self.say({"t": "done", "report": report.to_dict(), "memory": self._memory()})

    def _memory(self) -> int:
        """Bytes that all below the warden occupy. What they share is weighed at every tenth run: that takes 1 ms a process."""
        mine = processes.below(os.getppid(), processes.everything())
        alone = sum(map(processes.private, mine))
        if self._runs % _WEIGHED == 0:
            self._shared = processes.memory(mine) - alone
        self._runs += 1
        return alone + self._shared

    async def _report(self, job: Job) -> Report:
        began = monotonic()
        try:
            async with asyncio.timeout(min(_LAUNCHING, job.timeout)):
                playwright, browser = await self._ready(job.launch)
        except NoBrowserError as error:
            return Report("browser", scrub(str(error)))
        except (Error, TimeoutError, OSError) as error:
            return Report("browser", scrub(f"the browser could not be started: {_words(error)}"), worn=True)
        await self.say({"t": "begun"})
        left = max(0.1, job.timeout - (monotonic() - began))
        try:
            return await self._walk(browser, replace(job, timeout=left), self.say, self.ask, playwright.devices)
        except (Error, OSError, TimeoutError) as error:
            return Report("browser", scrub(f"the browser broke off: {_words(error)}"), worn=True)

    async def _ready(self, launch: Launch) -> tuple[Playwright, Browser]:
        """The driver and a warm browser that was started in this way. Raises NoBrowserError, Playwright's Error and OSError."""
        if self._playwright is None:
            self._playwright = await async_playwright().start()
            _watch_driver()
        if self._browser and (launch != self._launch or not self._browser.is_connected()):
            old, self._browser = self._browser, None
            async with asyncio.timeout(_CLOSING):
                await old.close()
        if self._browser is None:
            self._launch, self._browser = launch, await browsers.launch(self._playwright, launch)
            self._browser.on("disconnected", self._disconnected)
        return self._playwright, self._browser

    def _disconnected(self, browser: Browser) -> None:
        """A browser that ends while nothing runs: better to start all anew than to find out at the next run what else is broken."""
        if self._running is None and browser is self._browser:
            _complain("the browser ended by itself")
            os._exit(1)


def _job(data: Mapping[str, Any]) -> Job:
    try:
        return Job.from_dict(data)
    except (TypeError, KeyError):
        raise FrameError("this is no job") from None


def _watch_driver() -> None:
    """End with the driver: when it dies, Playwright tells nobody who does not just call it, and some calls wait for ever."""
    for process in processes.everything().values():
        if process.parent == os.getpid():
            with contextlib.suppress(OSError):             # an old kernel: then the next call fails
                asyncio.get_running_loop().add_reader(os.pidfd_open(process.pid), _driver_ended)


def _driver_ended() -> None:
    _complain("Playwright's driver ended")
    os._exit(1)


def _words(error: BaseException) -> str:
    """The first line: Playwright adds the browser's whole log."""
    return next(iter(str(error).splitlines()), "it took too long")


def _complain(words: str) -> None:
    """What the keeper tells of our end."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def _die(error: BaseException) -> None:
    """A mistake of ours, or the daemon no longer listens: the warden clears up, and the keeper tells the last line."""
    sys.excepthook(type(error), error, error.__traceback__)
    sys.stderr.flush()
    os._exit(1)


async def _lag() -> bool:
    """Until it is cancelled; whether this process was kept from running for long."""
    late = False
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            began = monotonic()
            await asyncio.sleep(_LAG)
            late = late or monotonic() - began - _LAG > _LAGGING
    return late


if __name__ == "__main__":
    main()
