"""The daemon's way to a browser: a worker of its own, or the socket at which `tillwatch browser --listen` serves several daemons."""

import asyncio
from pathlib import Path

from probes.checkout import frames
from probes.checkout.frames import FrameError
from probes.checkout.job import Ask, Job, Report
from probes.checkout.keeper import Keeper
from probes.checkout.settings import BrowserSettings
from probes.checkout.talk import SENDING, Talk, Told, greet, run_message
from probes.scrub import scrub

BEYOND = 5.0               # s beyond its time-out after which a run has ended
_CONNECTING = 3.0          # s for the socket's server to say that it is there
_BUSY = 300.0              # s to wait for the runs of others
_LATER = 1.0               # s by which the server's own deadline comes before ours


class Link:
    """Runs flows, one at a time, in the order asked for."""

    def __init__(self, settings: BrowserSettings, keeper: Keeper | None = None) -> None:
        self.settings = settings
        self._keeper = keeper or Keeper(settings)
        self._turn = asyncio.Lock()

    async def run(self, job: Job, told: Told, ask: Ask) -> Report:
        """What came of the run, at most `job.timeout` and five s after its turn came; when it is cancelled nothing of it goes on.

        `told` hears of every step and artifact; `ask` answers whether the flow may submit. Only what these two raise flies.
        """
        async with self._turn:
            if self.settings.socket is None:
                return await self._keeper.run(job, told, ask)
            return await _run_elsewhere(self.settings.socket, job, told, ask)

    async def close(self) -> None:
        """End the browser, and a run that is under way with it. The next run would start another one."""
        await self._keeper.close()


async def _run_elsewhere(path: Path, job: Job, told: Told, ask: Ask) -> Report:
    talk, writer = Talk(told, ask), None
    try:
        async with asyncio.timeout(_CONNECTING):
            reader, writer = await asyncio.open_unix_connection(str(path))
            greet(await frames.read(reader))
        return await _converse(reader, writer, job, talk)
    except TimeoutError:
        return Report("browser", f"whoever serves at {path} does not answer")
    except (FrameError, OSError) as error:
        words = f"the browser service at {path}: {getattr(error, 'strerror', None) or error}"
        advice = "Is this user in the group of the socket?" if isinstance(error, PermissionError) else "Does tillwatch-browser.service run?"
        return talk.lost(words) if writer else Report("browser", scrub(f"{words}. {advice}"))
    finally:
        if writer:
            writer.transport.abort()                   # by which the server knows that nobody waits for the run any more


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job, talk: Talk) -> Report:
    try:
        async with asyncio.timeout(_BUSY) as deadline:
            async with asyncio.timeout(SENDING):
                await frames.write(writer, run_message(job))
            if (await frames.read(reader))["t"] != "turn":
                raise FrameError("it does not say whose turn it is")
            deadline.reschedule(asyncio.get_running_loop().time() + job.timeout + BEYOND + _LATER)
            return await talk.until_done(reader, writer)
    except TimeoutError:
        return talk.lost("the browser service does not answer, or is busy with others' runs")
