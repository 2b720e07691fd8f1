"""One run of one flow in a fresh context of a warm browser."""

import asyncio
import base64
import contextlib
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Error, Page

from probes.checkout import evidence, faults, profile, traces
from probes.checkout.addresses import Hosts, host_of
from probes.checkout.browsers import NoBrowserError
from probes.checkout.flow import Flow, FlowError, Hooks, Limits, Refused, Stopped
from probes.checkout.job import OFFERED, Ask, Job, Report, Say, State
from probes.checkout.record import Recorder
from probes.checkout.script import Script, UnsafeError, load
from probes.faults import Fault
from probes.reasons import OURS
from probes.scrub import know, scrub

HEADER = "X-Tillwatch"               # on every request: the probe and the run
COOKIE = "tillwatch"
_ASKED = re.compile(r"https?://[^\s\"']{1,300}")
_OPENING = 10.0                      # s for a page to write on
_LOOKING = 3.0                       # s that must be left for a second look at a page
_CLOSING = 3.0                       # s for closing a context
_ALIVE = 2.0                         # s in which a healthy browser shows an empty page
_UNWINDING = 1.0                     # s that a flow has to end after it was cancelled
_CLEANING = 10.0                     # s for cancelling all orders of a run
_DOUBTFUL = {"step", "timeout", "disconnected"}      # failures that a browser which is not well would give as well


async def run(browser: Browser, job: Job, say: Say, ask: Ask, devices: Mapping[str, Any]) -> Report:
    """Walk the flow once. What goes wrong is said in the report; only cancelling raises.

    It takes `job.timeout` at most, and then some seconds for evidence and for closing.
    """
    know(*(secret for secret in job.secrets.values() if secret))
    try:
        script = load(job)
        options = _options(job, devices, browser.version)
        returning = await asyncio.to_thread(profile.visit, job)
    except UnsafeError as error:
        return Report("refused", scrub(str(error)))
    except OSError as error:
        return Report("browser", scrub(f"a returning customer's storage cannot be kept: {error.strerror or error}"))
    except (FlowError, ValueError) as error:
        return Report("flow", scrub(str(error)))
    report = Report()
    try:
        async with asyncio.timeout(_OPENING):
            context = await (returning.open(browser.browser_type, job, options) if returning else browser.new_context(**options))
    except (Error, NoBrowserError, TimeoutError, OSError) as error:
        return Report("browser", scrub(f"no page could be opened: {faults.words(error)}"), worn=True)
    try:
        await _Run(browser, context, job, script, say, ask, report).walk()
    finally:
        await _close(context, report)
        if returning:
            report.overloaded |= returning.first           # nothing was kept yet: its times are not those of a customer who returns
            await asyncio.to_thread(returning.close, keep=not report.reason)
    return report


async def _close(context: BrowserContext, report: Report) -> None:
    try:
        async with asyncio.timeout(_CLOSING):
            await context.close()
    except (Error, TimeoutError):
        report.worn = True


class _Run:
    """What belongs to one run."""

    def __init__(
        self, browser: Browser, context: BrowserContext, job: Job, script: Script, say: Say, ask: Ask, report: Report,
    ) -> None:
        self._browser, self._context, self._job, self._script, self._say, self._ask, self._report = (
            browser, context, job, script, say, ask, report)
        self._recorder = Recorder(urlsplit(job.url).hostname or "", job.launch.hosts, tuple(job.secrets.values()))
        self._end = monotonic() + job.timeout
        self._traced = False

    async def walk(self) -> None:
        """The flow, what cancels its orders, and the report."""
        await self._recorder.attach(self._context)
        self._traced = self._job.trace != "off" and await traces.start(self._context)
        try:
            page = await self._context.new_page()
            self._recorder.watch(page)
            page.set_default_timeout(1000 * self._job.step_timeout)
            page.set_default_navigation_timeout(1000 * self._job.step_timeout)
            flow = self._flow(page)
            fault = await self._outcome(flow)
            fault = self._configured() if fault is None else await self._explained(page, fault)
            self._tell(flow, fault)
            await self._say({"t": "report", "report": self._report.to_dict()})     # which holds, if the browser hangs over its evidence
            await self._keep_evidence(page, flow, fault)
            await self._clean(flow)
            self._report.orders = list(flow.orders)
        finally:
            await self._recorder.close()

    async def _explained(self, page: Page, fault: Fault) -> Fault:
        """The same, or what is behind it: a browser that is ill, a bot wall, a maintenance page that answers 200."""
        if fault.reason == "dns" and (host := self._confined(fault.words)):
            return Fault("flow", f"{host} is not among the hosts of this probe, so the browser cannot reach it: add it to hosts ({fault.words})")
        if fault.reason not in _DOUBTFUL:
            return fault
        if not await _alive(self._browser):
            return Fault("browser", f"the browser does not answer any more ({fault.words})")
        if fault.reason == "step" and monotonic() < self._end - _LOOKING:
            await self._recorder.settle(page)
            return await self._recorder.explained(page) or fault
        return fault

    def _flow(self, page: Page) -> Flow:
        job = self._job

        async def told(name: str, state: State, seconds: float, reason: str) -> None:
            await self._say({"t": "step", "name": name, "state": state, "seconds": seconds, "reason": reason})

        def reason(error: BaseException) -> str:
            if isinstance(error, asyncio.CancelledError):
                return self._recorder.stopped.result().reason if self._recorder.stopped.done() else "timeout"
            found = faults.fault(error, job.file)
            return found.reason if found else ""

        async def settle() -> None:
            await self._recorder.settle(page)
        hooks = Hooks(entered=self._recorder.step, told=told, settle=settle, reason=reason, ask=self._ask)
        return Flow(page, job.url, Limits(job.stop_before, job.step_timeout), _variables(job), job.secrets, hooks)

    async def _outcome(self, flow: Flow) -> Fault | None:
        """Walk until the flow ends, the shop says that it is over, or time is up."""
        walking = asyncio.create_task(_quietly(self._script, flow), name="flow")
        try:
            waiting: list[asyncio.Future[Any]] = [walking, self._recorder.stopped]
            over, _ = await asyncio.wait(
                waiting, timeout=self._end - monotonic(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _ended(walking)
        if not over:
            return Fault("timeout", f"the flow was not over after {self._job.timeout:.3g} s")
        if self._recorder.stopped.done():
            return self._recorder.stopped.result()
        error = walking.result()
        fault = faults.fault(error, self._job.file) if error else None
        if fault is None and not flow.steps:
            return Fault("flow", f'{self._job.file} has no step: write `async with flow.step("..."):`')
        return fault

    def _confined(self, words: str) -> str:
        """The host that was asked for in vain because it is not among those that the browser can reach."""
        asked, allowed = _ASKED.search(words), Hosts.of((), self._job.launch.hosts)
        host = host_of(asked[0]) if asked else ""
        return "" if allowed.may_reach(host) else host

    def _configured(self) -> Fault | None:
        """What the configuration calls a failure although every step came out."""
        wrong = [finding for finding in self._recorder.findings() if finding.kind in self._job.fail_on]
        return Fault("finding", f"{wrong[0].step}: {wrong[0].text}" if wrong[0].step else wrong[0].text) if wrong else None

    def _tell(self, flow: Flow, fault: Fault | None) -> None:
        report, recorder = self._report, self._recorder
        report.steps = flow.steps
        report.seconds = sum(step.seconds for step in flow.steps)
        report.values, report.facts = recorder.values(), recorder.facts()
        report.counts, report.examples = recorder.counts(), recorder.examples()
        report.counts["kilobytes"] = round(report.counts.pop("bytes", 0) / 1000)
        report.submitted = flow.submitted
        if fault is not None:
            report.reason = fault.reason
            report.evidence = self._sentence(flow.within, fault)
            report.worn = fault.reason == "browser"

    def _sentence(self, step: str, fault: Fault) -> str:
        """What happened, for a person: the step, what it waited for, and what was seen meanwhile."""
        seen = self._recorder.told(step) if fault.reason not in OURS else ""
        at = f'step "{step}": ' if step and fault.reason != "refused" else ""
        return scrub(f"{at}{fault.words}{f'; {seen}' if seen else ''}", tuple(self._job.secrets.values()))

    async def _keep_evidence(self, page: Page, flow: Flow, fault: Fault | None) -> None:
        found, secrets = [], tuple(self._job.secrets.values())
        if fault is not None:
            found += await evidence.collect(page, self._recorder, step=flow.within, words=fault.words, secrets=secrets)
        if self._traced and (fault is not None or self._job.trace == "on"):
            found += await traces.stop(self._context, secrets)
        for kind, ext, data in found:
            await self._say({"t": "artifact", "kind": kind, "ext": ext, "data": base64.b64encode(data).decode()})

    async def _clean(self, flow: Flow) -> None:
        """Let the flow cancel what it ordered, each by its number."""
        if not flow.orders or self._script.cleanup is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLEANING):
                for order in list(flow.orders):
                    error = await _raised(self._script.cleanup(flow, order))
                    if error is None:
                        flow.orders.remove(order)
                    else:
                        self._report.evidence = self._report.evidence or scrub(f"cleanup of an order: {faults.words(error)}")


async def _quietly(script: Script, flow: Flow) -> BaseException | None:
    return await _raised(script.checkout(flow))


async def _raised(work: Any) -> BaseException | None:
    """What flew out of the flow author's code: it is told, and never ends the worker."""
    try:
        await work
    except (Exception, Stopped, Refused) as error:  # noqa: BLE001 - the door around the flow author's code
        return error
    return None


async def _ended(task: "asyncio.Task[Any]") -> None:
    """End a task; one that does not let itself be ended is left to whoever ends the process."""
    task.cancel()
    await asyncio.wait([task], timeout=_UNWINDING)


async def _alive(browser: Browser) -> bool:
    """Whether the browser still shows a page of its own."""
    try:
        async with asyncio.timeout(_ALIVE):
            context = await browser.new_context()
            page = await context.new_page()
            fine = bool(await page.evaluate("1 + 1 == 2"))
            await context.close()
            return fine
    except (Error, TimeoutError):
        return False


def _variables(job: Job) -> dict[str, str]:
    return {name: value.replace("{run}", job.run) for name, value in {**OFFERED, **job.variables}.items()}


def _options(job: Job, devices: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Of the context: the device, and by what the shop can tell that it is us."""
    options: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
    if job.device:
        if job.device not in devices:
            close: Sequence[str] = get_close_matches(job.device, devices, 1)
            raise FlowError(f'Playwright knows no device "{job.device}"' + (f'; did you mean "{close[0]}"?' if close else ""))
        options = {name: value for name, value in devices[job.device].items() if name != "default_browser_type"}
    elif job.launch.browser == "chromium":
        # A headless browser says so in its name, and many a wall keeps it out for that.
        options["user_agent"] = ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                                 f"Chrome/{version.partition('.')[0]}.0.0.0 Safari/537.36")
    marks = {"extra_http_headers": {HEADER: f"{job.probe.encode('ascii', 'replace').decode()} {job.run}"}}
    return {**options, **marks, "base_url": job.url, "accept_downloads": False, "storage_state": {
        "cookies": [{"name": COOKIE, "value": job.run, "domain": urlsplit(job.url).hostname or "", "path": "/", "expires": -1, "httpOnly": False,
                     "secure": False, "sameSite": "Lax"}], "origins": []}}


