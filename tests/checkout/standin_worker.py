"""The real worker around an engine that does what a test says: `job.source` is the body of a function with browser, page, step and ask."""

import asyncio
import contextlib
import textwrap
from collections.abc import AsyncIterator, Mapping
from time import monotonic
from typing import Any

from playwright.async_api import Browser, Error

from probes.checkout import worker
from probes.checkout.job import Ask, Job, Report, Say, StepReport


async def run(browser: Browser, job: Job, say: Say, ask: Ask, devices: Mapping[str, Any]) -> Report:
    """As the engine does it: a fresh context, steps, the deadline, a report; and a context that does not close is left to others."""
    report, began = Report(), monotonic()
    space: dict[str, Any] = {"asyncio": asyncio, "report": report, "job": job, "browser": browser}
    exec("async def flow(page, step, ask, say):\n" + textwrap.indent(job.source or "pass", "    "), space)

    @contextlib.asynccontextmanager
    async def step(name: str) -> AsyncIterator[None]:
        await say({"t": "step", "name": name, "state": "begun", "seconds": 0, "reason": ""})
        begun = monotonic()
        yield
        report.steps.append(StepReport(name, monotonic() - begun))
        await say({"t": "step", "name": name, "state": "ok", "seconds": monotonic() - begun, "reason": ""})

    context = None
    try:
        async with asyncio.timeout(job.timeout):
            context = await browser.new_context(accept_downloads=False)
            await space["flow"](await context.new_page(), step, ask, say)
    except TimeoutError:
        report.reason, report.evidence = "timeout", "not over"
    finally:
        with contextlib.suppress(Error, TimeoutError):
            async with asyncio.timeout(1.0):
                if context:
                    await context.close()
    report.seconds = monotonic() - began
    return report


if __name__ == "__main__":
    worker.main(run)
