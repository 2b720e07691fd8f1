"""One worker's life: started when it is needed, renewed when it is worn, and never waited for longer than a run may take."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

from probes.checkout import frames, processes
from probes.checkout.child import Child
from probes.checkout.frames import FrameError
from probes.checkout.job import Ask, Job, Report
from probes.checkout.settings import BrowserSettings
from probes.checkout.talk import SENDING, Talk, Told, run_message
from probes.scrub import scrub

_COMMAND = (sys.executable, "-m", "probes.checkout.worker")
_AT_ONCE = 3               # times max_memory that the worker may take during a run before it ends itself
_SLOW_START = 0.25         # of a run's time: when starting the browser took more, a flow that was not over is not the shop's fault
_LEAST = 0.5               # s of a run's time that must be left for the flow


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what, in s."""

    start: float = 10.0    # for a worker's first word
    cancel: float = 3.0    # beyond the deadline, until it is told to stop: before, it collects evidence
    kill: float = 4.0      # beyond the deadline, until it is killed


class Keeper:
    """Runs flows in a worker, one at a time: its caller sees to that.

    `command` starts the worker; the numbers of its end of the socket and of the bytes it may take are appended.
    """

    def __init__(self, settings: BrowserSettings, *, patience: Patience = Patience(), command: Sequence[str] = _COMMAND) -> None:
        self._settings, self._patience, self._command = settings, patience, command
        self._child: Child | None = None
        self._idle: asyncio.Task[None] | None = None

    async def run(self, job: Job, told: Told, ask: Ask) -> Report:
        """What came of the run, no later than its time-out and five s; what goes wrong in the worker has the reason "browser".

        When it is cancelled, the worker is killed, and the next run starts another one.
        """
        talk, began = Talk(told, ask), monotonic()
        try:
            report = await self._run(job, talk, began)
        except BaseException:
            await self._drop()
            raise
        if self._child and (report.worn or self._worn(self._child)):
            await self._drop()
        elif self._child:
            self._idle = asyncio.create_task(self._watch(self._child), name="idle browser worker")
        return report

    async def close(self) -> None:
        """End the worker."""
        await self._stop_watching()
        await self._drop()

    async def _run(self, job: Job, talk: Talk, began: float) -> Report:
        await self._stop_watching()
        free = processes.free_memory() + (self._child.memory if self._child else 0)
        if free < self._settings.min_free_memory:
            await self._drop()
            return Report("local_resources", f"{free / 1e6:.0f} MB of memory are free, a browser needs {self._settings.min_free_memory / 1e6:.0f} MB")
        try:
            async with asyncio.timeout(min(self._patience.start, job.timeout)):
                child = await self._ready()
        except TimeoutError:
            return await self._lost(talk, "the browser worker did not start in time")
        except (FrameError, OSError) as error:
            return await self._lost(talk, f"the browser worker could not be started: {error}")
        child.runs += 1
        return talk.named(self._fair(await self._converse(child, job, talk, began), job, talk, began))

    async def _ready(self) -> Child:
        """The worker that is there when it is well, else a new one. Raises FrameError and OSError."""
        if self._child and (self._worn(self._child) or await self._child.still()):
            await self._drop()
        if not self._child:
            self._child = await Child.start(self._command, _AT_ONCE * self._settings.max_memory)
            await self._child.greeted()
        return self._child

    async def _converse(self, child: Child, job: Job, talk: Talk, began: float) -> Report:
        left = job.timeout - (monotonic() - began)
        if left < _LEAST:
            return talk.lost("starting the browser worker took all the time that the run has")
        over = asyncio.get_running_loop().time() + left
        cancelling = asyncio.get_running_loop().call_at(over + self._patience.cancel, child.writer.write, frames.encode({"t": "cancel"}))
        try:
            async with asyncio.timeout_at(over + self._patience.kill):
                async with asyncio.timeout(SENDING):
                    await frames.write(child.writer, run_message(replace(job, timeout=left)))
                report = await talk.until_done(child.reader, child.writer)
        except TimeoutError:
            return await self._lost(talk, f"the browser did not end within {job.timeout:g} s and hung on")
        except (FrameError, OSError) as error:
            return await self._lost(talk, f"the browser worker broke off: {error}")
        finally:
            cancelling.cancel()
        child.memory = talk.memory
        if report.reason and await child.still():
            talk.report = None
            return await self._lost(talk, "a part of the browser stood still")
        return report

    def _fair(self, report: Report, job: Job, talk: Talk, began: float) -> Report:
        """A flow that had no time because our browser took it did not fail."""
        if report.reason != "timeout" or (talk.begun - began) < _SLOW_START * job.timeout:
            return report
        report.reason = "browser"
        report.evidence = scrub(f"the browser took {talk.begun - began:.1f} s to start, too little was left for the flow; {report.evidence}")
        return report

    async def _lost(self, talk: Talk, words: str) -> Report:
        """Kill the worker, and say what is known."""
        child = self._child
        await self._drop()
        said = child.last_words() if child else ""
        return talk.lost(f"{words} ({said})" if said else words)

    def _worn(self, child: Child) -> bool:
        settings = self._settings
        return child.runs >= settings.max_runs or monotonic() - child.born > settings.max_age or child.memory > settings.max_memory

    async def _drop(self) -> None:
        child, self._child = self._child, None
        if child:
            await child.end()

    async def _watch(self, child: Child) -> None:
        """While nothing runs: a worker that ends, or says anything, is swept up at once, and so is one that nobody needed for long."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(self._settings.max_age):
                await child.reader.read(1)
        if self._child is child:
            await self._drop()

    async def _stop_watching(self) -> None:
        idle, self._idle = self._idle, None
        if idle:
            idle.cancel()
            await asyncio.wait([idle])

