"""One run of one flow in a fresh context of a warm browser."""

import asyncio
import base64
import contextlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Error, Page, expect

from probes.checkout import evidence, faults, profile, traces
from probes.checkout.addresses import Hosts, host_of, shown
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
_OPENING = 10.0                      # s for a page to write on
_LOOKING = 3.0                       # s that must be left for a second look at a page
_CLOSING = 3.0                       # s for closing a context
_OFFLINE = 1.0                       # s for cutting it off from the network
_ALIVE = 2.0                         # s in which a healthy browser shows an empty page
_UNWINDING = 1.0                     # s that a flow has to end after it was cancelled
_LEAVING = 3.0                       # s that it has to end after it was to do no more, offline: for what stands in a `finally`
_CLEANING = 10.0                     # s for cancelling all orders of a run
_DOUBTFUL = {"step", "timeout", "disconnected"}      # failures that a browser which is not well would give as well
_UNREACHED = {"dns", "step", "timeout", "connect_failed"}      # what comes of a page at a host that the browser may not reach


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
        await _Run(None if returning else browser, context, job, script, say, ask, report).walk()
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
    """What belongs to one run. `browser` is None where the context is all that there is of it."""

    def __init__(
        self, browser: Browser | None, context: BrowserContext, job: Job, script: Script, say: Say, ask: Ask, report: Report,
    ) -> None:
        self._browser, self._context, self._job, self._script, self._say, self._ask, self._report = (
            browser, context, job, script, say, ask, report)
        self._recorder = Recorder(urlsplit(job.url).hostname or "", job.launch.hosts, tuple(job.secrets.values()))
        self._end = monotonic() + job.timeout
        self._halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stubborn = self._traced = False              # the flow did not let itself be ended

    async def walk(self) -> None:
        """The flow, what cancels its orders, and the report."""
        await self._recorder.attach(self._context)
        self._traced = self._job.trace != "off" and await traces.start(self._context)
        try:
            page = await self._context.new_page()
            self._recorder.watch(page)
            page.set_default_timeout(1000 * self._job.step_timeout)
            page.set_default_navigation_timeout(1000 * self._job.step_timeout)
            expect.set_options(timeout=1000 * self._job.step_timeout)          # of all: one run at a time has this process
            flow = self._flow(page)
            fault = await self._outcome(flow)
            fault = self._configured() if fault is None else await self._explained(page, fault)
            self._tell(flow, fault)
            await self._say({"t": "report", "report": self._report.to_dict()})     # which holds, if the browser hangs over its evidence
            await self._keep_evidence(page, flow, fault)
            await self._clean(flow)
            self._report.orders = [order for order in flow.orders if order not in self._report.cancelled]
            flow.end()
        finally:
            await self._recorder.close()

    async def _explained(self, page: Page, fault: Fault) -> Fault:
        """The same, or what is behind it: a browser that is ill, a host that is not allowed, a bot wall, a maintenance page that answers 200."""
        url, why = self._recorder.broke or ("", "")
        if fault.reason in ("step", "timeout") and page.url.startswith(("https:", "http:")):
            url = why = ""                                 # what is shown now did come
        if fault.reason in _UNREACHED and (host := host_of(url)) and not Hosts.of((), self._job.launch.hosts).may_reach(host):
            return Fault("flow", f"{host} is not among the hosts of this probe, so the browser cannot reach it: add it to hosts ({fault.words})")
        gone = fault.reason == "browser" and not self._recorder.stopped.done()
        if fault.reason not in _DOUBTFUL and not gone:
            return fault
        if not await _alive(self._browser or self._context):
            return fault if gone else Fault("browser", f"the browser does not answer any more ({fault.words})")
        if gone:
            return Fault("flow", f"the page was closed, by the flow or by itself ({fault.words})") if page.is_closed() else Fault("step", fault.words)
        if fault.reason != "disconnected" and (reason := faults.network(why)):      # a click does not say what became of the page that it asked for
            return Fault(reason, f"{shown(url)}: {why} ({fault.words})")
        if fault.reason == "step" and monotonic() < self._end - _LOOKING:
            await self._recorder.settle(page)
            return await self._recorder.explained(page) or fault
        return fault

    def _flow(self, page: Page) -> Flow:
        job = self._job

        async def told(name: str, state: State, seconds: float, reason: str) -> None:
            await self._say({"t": "step", "name": name, "state": state, "seconds": seconds, "reason": reason})

        def reason(error: BaseException) -> str:
            if isinstance(error, asyncio.CancelledError) and _asked_to_end():
                return self._recorder.stopped.result().reason if self._recorder.stopped.done() else "timeout"
            found = faults.fault(error, job.file)
            return found.reason if found else ""

        async def settle() -> None:
            await self._recorder.settle(page)
        hooks = Hooks(entered=self._recorder.step, told=told, settle=settle, reason=reason, ask=self._ask, halt=self._halt)
        return Flow(page, job.url, Limits(job.stop_before, job.step_timeout), _variables(job), job.secrets, hooks)

    async def _halt(self) -> None:
        """Cut the pages off from the network, whatever the flow does next. What they show stays; what they say of it is not noted."""
        await self._recorder.close()
        try:
            async with asyncio.timeout(_OFFLINE):
                await self._context.set_offline(True)
                await self._context.request.dispose(reason="the flow is at its end")      # calls that do not go through a page
        except (Error, TimeoutError):
            await _close(self._context, self._report)
        if not self._halted.done():
            self._halted.set_result(None)

    async def _outcome(self, flow: Flow) -> Fault | None:
        """Walk until the flow ends, the shop says that it is over, or time is up."""
        walking = asyncio.create_task(_quietly(self._script, flow), name="flow")
        try:
            waiting: list[asyncio.Future[Any]] = [walking, self._recorder.stopped, self._halted]
            over, _ = await asyncio.wait(waiting, timeout=self._end - monotonic(), return_when=asyncio.FIRST_COMPLETED)
            if self._halted in over:
                await asyncio.wait([walking], timeout=max(_UNWINDING, min(_LEAVING, self._end - monotonic())))
        finally:
            self._stubborn = not await _ended(walking)
            if self._stubborn:
                await self._halt()
        if not over:
            return Fault("timeout", f"the flow was not over after {self._job.timeout:.3g} s")
        return await self._recorder.failing() or self._of_flow(flow, walking)

    def _of_flow(self, flow: Flow, walking: "asyncio.Task[BaseException | None]") -> Fault | None:
        """What is wrong with how the flow ended; None when it is as it should be."""
        error = walking.result() if walking.done() and not walking.cancelled() else None
        fault = faults.fault(error, self._job.file) if error else None
        if flow.over:
            as_it_should = error is not None and (fault is None if flow.stopped else fault is not None and fault.reason == "refused")
            if not as_it_should:
                return Fault("refused", flow.over)
            return fault if flow.steps or fault else Fault("flow", f'there is no step before "{self._job.stop_before}", where it stops')
        if error is None and not flow.steps:
            return Fault("flow", f'{self._job.file} has no step: write `async with flow.step("..."):`')
        if error is None and self._job.stop_before:
            return Fault("flow", f'the flow ended without coming to "{self._job.stop_before}", before which it is to stop')
        return fault

    def _configured(self) -> Fault | None:
        """What the configuration calls a failure although every step came out."""
        wrong = [finding for finding in self._recorder.findings() if finding.kind in self._job.fail_on]
        return Fault("finding", f"{wrong[0].step}: {wrong[0].text}" if wrong[0].step else wrong[0].text) if wrong else None

    def _tell(self, flow: Flow, fault: Fault | None) -> None:
        report, recorder = self._report, self._recorder
        report.steps = list(flow.steps)
        report.seconds = sum(step.seconds for step in flow.steps)
        report.values, report.facts = recorder.values(), recorder.facts()
        report.counts, report.examples = recorder.counts(), recorder.examples()
        report.counts["kilobytes"] = round(report.counts.pop("bytes", 0) / 1000)
        report.submitted, report.orders = flow.submitted, list(flow.orders)
        report.worn = self._stubborn
        if fault is not None:
            report.reason = fault.reason
            report.evidence = self._sentence(flow.within, fault)
            report.worn |= fault.reason == "browser"
            if report.steps and (report.steps[-1].reason or self._recorder.stopped.done()):      # the error page may come when the step is over
                report.steps[-1].reason = fault.reason

    def _sentence(self, step: str, fault: Fault) -> str:
        """What happened, for a person: the step, what it waited for, and what was seen meanwhile."""
        seen = self._recorder.told(step) if fault.reason not in OURS else ""
        if fault.reason in _DOUBTFUL and (kept := self._recorder.unreached(step)[:5]):
            seen += f"{'; ' if seen else ''}not reached, as they are not among hosts: {', '.join(kept)}"
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
        """Let the flow cancel what it ordered, each by its number; where all is well also what earlier runs left."""
        earlier = [] if self._report.reason or flow.over else list(self._job.orders)
        orders = [*flow.orders, *earlier]
        if not orders or self._script.cleanup is None or self._stubborn:
            return
        flow.reopen()
        with contextlib.suppress(TimeoutError, Error):
            async with asyncio.timeout(_CLEANING):
                await self._context.set_offline(False)
                for order in orders:
                    error = await _raised(self._script.cleanup(flow, order))
                    if error is not None:
                        self._report.evidence = self._report.evidence or scrub(f"cleanup of an order: {faults.words(error)}")
                    else:
                        self._report.cancelled.append(order)


async def _quietly(script: Script, flow: Flow) -> BaseException | None:
    return await _raised(script.checkout(flow))


async def _raised(work: Any) -> BaseException | None:
    """What flew out of the flow author's code: it is told, and never ends the worker."""
    try:
        await work
    except (Exception, BaseExceptionGroup, SystemExit, KeyboardInterrupt, Stopped, Refused) as error:  # noqa: BLE001 - the door around the flow author's code
        return error
    except asyncio.CancelledError as error:
        if _asked_to_end():
            raise
        return FlowError(f"it cancelled itself{f': {error}' if str(error) else ''}")
    return None


def _asked_to_end() -> bool:
    """Whether we cancelled the task that asks."""
    task = asyncio.current_task()
    return bool(task and task.cancelling())


async def _ended(task: "asyncio.Task[Any]") -> bool:
    """End a task. False for one that does not let itself be ended: it ends with its process."""
    task.cancel()
    await asyncio.wait([task], timeout=_UNWINDING)
    return task.done()


async def _alive(where: Browser | BrowserContext) -> bool:
    """Whether the browser still shows a page of its own."""
    try:
        async with asyncio.timeout(_ALIVE):
            page = await where.new_page()                   # of a browser: in a context of its own, which is closed with it
            fine = bool(await page.evaluate("1 + 1 == 2"))
            await page.close()
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


