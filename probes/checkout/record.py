"""What a run records beside its steps: requests, errors, what the pages say, how quickly they came.

Listens only: nothing that the browser does is held up or changed (a `route` would switch its cache off). A page that says too much is not
listened to until the next step.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from html import unescape
from time import monotonic
from typing import Any

from playwright.async_api import BrowserContext, ConsoleMessage, Error, Frame, Page, Request, Response, WebError, WebSocket

from probes.checkout.addresses import Hosts, host_name, host_of, shown
from probes.checkout.answers import LARGEST, failure
from probes.checkout.error_pages import as_answer, body_of, special
from probes.checkout.findings import COUNTS, Finding, Found
from probes.checkout.soft_errors import soft_error
from probes.checkout.traffic import ASKED, ASSETS, Asked, Remark, answered, console, failed, is_html_as_script, page_error
from probes.checkout.vitals import Reading, Vitals
from probes.faults import Fault
from probes.scrub import scrub

_MOST_REQUESTS = 2000      # that are noted in a run; and events of a step that are listened to
_MOST_MESSAGES = 1000      # console messages of a run that are listened to
_MOST_DOCUMENTS = 200
_MOST_BODIES = 50          # JSON answers that are read
_BODIES_TOGETHER = 1024 * 1024     # bytes of them: one of unknown length may be large, the next is then left
_AT_ONCE = 4
_BODY_TIME = 2.0           # s for one
_ERROR_PAGE_TIME = 1.0     # s for the page of a main document that failed
_LOADING, _SETTLING = 1.2, 2.0     # s that `settle` waits for the load event, and takes in all
_TAIL = 40
_NEEDED = frozenset(("script", "document", "window"))      # without which a page may not do what it should


@dataclass(slots=True)
class Noted:
    """One request as evidence shows it."""

    asked: Asked
    order: int
    step: str
    frame: Frame | None
    end: str = "no answer"               # "200", or why it failed
    told: bool = False                   # its answer was a finding


@dataclass(slots=True)
class _Document:
    """A document that was read, by the step that led to it."""

    step: str
    reading: Reading
    scripts: set[str] = field(default_factory=set)


class Recorder:
    """Of one run: attached to its context before the first page is opened, and closed before the context is.

    `own` are the shop's hosts, each with all below it; `allowed` all that the browser can reach (empty: anything). `stopped` is set when the
    flow cannot go on: the main document is an error, or its page crashed.
    """

    def __init__(self, own: str | Sequence[str], allowed: Sequence[str] = (), secrets: Sequence[str] = ()) -> None:
        self.stopped: asyncio.Future[Fault] = asyncio.get_running_loop().create_future()
        self.vitals = Vitals()
        self._hosts = Hosts.of(own, allowed)
        self._secrets = tuple(secrets)
        self._found = Found(self._hosts, self._secrets)
        self._context: BrowserContext | None = None
        self._main: Page | None = None
        self._answer: Response | None = None                # of the main document that is shown
        self._failing: asyncio.Task[None] | None = None     # reads the error page that came as such
        self.broke: tuple[str, str] | None = None           # the main document that was asked for last, and why it did not come
        self._unreached: dict[str, dict[str, None]] = {}    # step: hosts of scripts and frames that it may not reach
        self._step, self._over = "", False
        self._noted: dict[Request, Noted] = {}
        self._left: dict[Frame, int] = {}                   # when a frame was last asked to show something else, in `order`
        self._requests = self._failed = self._errors = self._events = self._messages = 0
        self._listening = False
        self._hear: dict[str, Callable[[Any], None]] = {
            "request": self._on_request, "response": self._on_response, "requestfailed": self._on_failed}
        self._third: set[str] = set()
        self._assets: set[tuple[str, str]] = set()          # (step, address): a file that failed is told once
        self._mistyped: set[str] = set()                    # steps in which a page came where a script was wanted
        self._documents: dict[str, _Document] = {}
        self._network: deque[Noted] = deque(maxlen=_TAIL)
        self._console: deque[tuple[str, str, str]] = deque(maxlen=_TAIL)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bodies, self._body_bytes = 0, 0
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def attach(self, context: BrowserContext) -> None:
        """Listen to all that happens in a context from now on. Raises playwright's Error."""
        self._context = context
        await context.add_init_script(self.vitals.script)
        context.on("page", self._on_page)
        context.on("console", self._on_console)
        context.on("weberror", self._on_page_error)
        self._listen()

    async def close(self) -> None:
        """Listen no more; nothing of it is left running. What was found stays."""
        self._over = True
        self._deafen()
        if self._context and self._messages < _MOST_MESSAGES:
            self._context.remove_listener("console", self._on_console)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def step(self, name: str) -> None:
        """What comes from now on belongs to this step."""
        self._step, self._events = name, 0
        if self._context and not self._over:
            self._listen()

    def watch(self, page: Page) -> None:
        """From now on this is the page whose documents must not fail. Without it: the first one of the context."""
        self._main = page

    async def settle(self, page: Page) -> None:
        """Look at what the step led to, outside its time: at most 2 s, and nothing is raised."""
        step, until = self._step, monotonic() + _SETTLING
        reading = await self.vitals.read(page, _LOADING, _SETTLING)
        if reading is None and (left := until - monotonic()) > 0:      # the page may have gone on to another document meanwhile
            with contextlib.suppress(Error, TimeoutError):
                await asyncio.wait_for(page.wait_for_load_state("load", timeout=left * 1000), left)
            reading = await self.vitals.read(page, 0, until - monotonic())
        if reading and not self._over:
            self._take(reading, step, page.url)
        if self._tasks and (left := min(0.5, until - monotonic())) > 0:
            await asyncio.wait(self._tasks, timeout=left)

    async def failing(self) -> Fault | None:
        """Why the flow cannot go on, if the main document came as an error page: known once that was read, in a second at most."""
        if self._failing:
            await asyncio.wait([self._failing], timeout=_ERROR_PAGE_TIME)
        return self.stopped.result() if self.stopped.done() else None

    async def explained(self, page: Page) -> Fault | None:
        """Why a step may have failed although the shop is well, or closed on purpose: a bot wall, or a maintenance page that says 200."""
        html = await self.vitals.html(page, 1.0)
        if not html or self._answer is None:
            return None
        return special(as_answer(self._answer, html[:131_072].encode("utf-8", "replace")))

    # what came of it

    def findings(self) -> list[Finding]:
        """All of them, as they were seen first."""
        return list(self._found.by_name.values())

    def counts(self) -> dict[str, int]:
        """How often what happened, 0 too, and each finding as "signature/NAME"."""
        counts = dict.fromkeys(COUNTS, 0) | {name: self._found.counts[name] for name in COUNTS if name in self._found.counts}
        counts |= {"failed_requests": self._failed, "error_responses": self._errors, "third_party_hosts": len(self._third),
                   "requests": self._requests, "bytes": sum(one.reading.bytes for one in self._documents.values())}
        return counts | {f"signature/{one.name}": one.count for one in self._found.by_name.values()}

    def examples(self) -> dict[str, str]:
        """How a finding read, by its name, scrubbed."""
        return {one.name: one.text for one in self._found.by_name.values() if one.text}

    def values(self) -> dict[str, float]:
        """Vitals in s of the document that a step led to: "lcp/pay"."""
        return {f"{vital}/{one.step}": value for one in self._documents.values() for vital in ("ttfb", "fcp", "lcp", "inp")
                if (value := getattr(one.reading, vital)) > 0}

    def facts(self) -> dict[str, float]:
        """The worst of all documents: `ttfb`, `fcp`, `lcp`, `inp` in s, `cls`."""
        readings = [one.reading for one in self._documents.values()]
        worst = {vital: max((getattr(one, vital) for one in readings), default=0.0) for vital in ("ttfb", "fcp", "lcp", "inp")}
        facts = {vital: value for vital, value in worst.items() if value > 0}
        return facts | ({"cls": max(one.cls for one in readings)} if readings else {})

    def told(self, step: str) -> str:
        """What was found in a step, the most telling first, in a sentence; "" when nothing was."""
        return scrub("; ".join(dict.fromkeys(one.text or one.name for one in self._found.told(step)[:3])), self._secrets, limit=300)

    def unreached(self, step: str) -> list[str]:
        """Hosts of which scripts and frames were wanted in a step, and that the browser may not reach."""
        return list(self._unreached.get(step, ()))

    def network_tail(self) -> list[dict[str, str]]:
        """The last requests: method, address without values, type, and how they ended."""
        return [{"step": one.step, "method": one.asked.method[:20], "url": shown(one.asked.url, self._secrets), "type": one.asked.type,
                 "end": scrub(one.end, limit=80)} for one in self._network]

    def console_tail(self) -> list[dict[str, str]]:
        """The last console messages and page errors."""
        return [{"step": step, "level": level, "text": self._found.example(text)} for step, level, text in self._console]

    # requests

    def _listen(self) -> None:
        if self._context and not self._listening:
            self._listening = True
            for event, handler in self._hear.items():
                self._context.on(event, handler)      # type: ignore[call-overload]

    def _deafen(self) -> None:
        if self._context and self._listening:
            self._listening = False
            for event, handler in self._hear.items():
                self._context.remove_listener(event, handler)

    def _on_request(self, request: Request) -> None:
        host = host_of(request.url)
        if not host:
            return
        self._requests += 1
        self._events += 1
        frame, navigates = _frame(request), request.is_navigation_request()
        if navigates and frame:
            self._left[frame] = self._requests
        if len(self._noted) < _MOST_REQUESTS:
            self._noted[request] = noted = Noted(self._asked(request, frame), self._requests, self._step, frame)
            self._network.append(noted)
        self._meet(host)
        if self._events >= _MOST_REQUESTS:
            self._deafen()

    def _meet(self, host: str) -> None:
        if not self._hosts.is_own(host):
            if len(self._third) < _MOST_REQUESTS:
                self._third.add(host)
            self._found.add("third_party", host_name(host), step=self._step, fixed=True)

    def _on_response(self, response: Response) -> None:
        request, status = response.request, response.status
        noted = self._noted.get(request) or self._unnoted(request)
        noted.end, asked = str(status), noted.asked
        own = self._hosts.is_own(host_of(asked.url))
        self._errors += own and status >= 400
        if asked.main and not 300 <= status < 400:
            self._answer = response
            self._look_at_headers(response)
            self.broke = None
            if status >= 400:
                self._failing = self._begin(self._stop(response))
        looked_at = own and (asked.type in ASSETS or asked.type in ASKED)              # reading the headers of each image would cost
        media = response.headers.get("content-type", "")[:100].partition(";")[0].strip().lower() if looked_at else ""
        if remark := answered(asked, status, media, self._hosts):
            noted.told = True
            self._add(remark, noted.step)
        elif looked_at and asked.type in ASKED and "json" in media:
            self._read_json(response, noted)

    def _look_at_headers(self, response: Response) -> None:
        if "noindex" in response.headers.get("x-robots-tag", "")[:200].lower():
            self._found.add("robots", "", step=self._step, url=response.url, fixed=True)

    def _on_failed(self, request: Request) -> None:
        noted = self._noted.get(request) or self._unnoted(request)
        why = request.failure or "failed"
        noted.end = f"{noted.end}, {why}" if noted.end.isdecimal() else why
        self._note_unreached(noted, why)
        if self._over or noted.told:                         # a stylesheet that answers 404 is aborted too
            return
        if remark := failed(noted.asked, why, self._hosts, left=self._was_left(noted)):
            self._failed += self._hosts.is_own(host_of(noted.asked.url))
            self._add(remark, noted.step)

    def _note_unreached(self, noted: Noted, why: str) -> None:
        host, needed = host_of(noted.asked.url), noted.asked.type in _NEEDED
        if noted.asked.main and "ABORTED" not in why:
            self.broke = noted.asked.url, why
        elif needed and not self._hosts.may_reach(host) and len(hosts := self._unreached.setdefault(noted.step, {})) < _TAIL:
            hosts[host_name(host)] = None

    def _unnoted(self, request: Request) -> Noted:
        frame = _frame(request)
        return Noted(self._asked(request, frame), 0, self._step, frame)

    def _asked(self, request: Request, frame: Frame | None) -> Asked:
        navigates, kind = request.is_navigation_request(), request.resource_type
        top = navigates and (frame is None or frame.parent_frame is None)
        main = top and frame is not None and frame.page is self._main
        return Asked(request.method, request.url, "window" if top and not main else kind, main)

    def _was_left(self, noted: Noted) -> bool:
        """Whether its frame, or one around it, was asked to show something else after the request was made, or is gone."""
        frame, depth = noted.frame, 0
        if frame is None or frame.is_detached() or frame.page.is_closed():
            return True
        while frame and depth < 10:
            if self._left.get(frame, 0) > noted.order:
                return True
            frame, depth = frame.parent_frame, depth + 1
        return False

    def _add(self, remark: Remark, step: str) -> None:
        if remark.kind == "asset":
            key = step, remark.url
            if key in self._assets or len(self._assets) >= _MOST_REQUESTS:
                return
            self._assets.add(key)
            if " came as " in remark.said:
                self._mistyped.add(step)
        self._found.add(remark.kind, remark.said, step=step, url=remark.url, text=remark.text, fixed=remark.fixed, light=remark.light)

    # what answers say

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name="checkout body")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _read_json(self, response: Response, noted: Noted) -> None:
        length = response.headers.get("content-length", "0")[:20]
        if self._over or self._bodies >= _MOST_BODIES or not length.isdecimal() or int(length) > LARGEST:
            return
        self._bodies += 1
        self._begin(self._judge_json(response, noted))

    async def _judge_json(self, response: Response, noted: Noted) -> None:
        async with self._gate:
            body = await body_of(response, _BODY_TIME) if self._body_bytes < _BODIES_TOGETHER else b""
        self._body_bytes += len(body)
        if (told := failure(body)) and not self._over:
            how, words = told
            text = f"{noted.asked.method} {shown(noted.asked.url, self._secrets)}: {how}: {words}"
            self._found.add("json", how, step=noted.step, url=noted.asked.url, text=text, fixed=True)

    async def _stop(self, response: Response) -> None:
        body = b""
        try:
            body = await body_of(response, _ERROR_PAGE_TIME)
        finally:                                             # also when it is cancelled: the status is known
            if not self.stopped.done():
                answer, where = as_answer(response, body), shown(response.url, self._secrets)
                said = f"{where} answered {answer.status} {unescape(answer.title)[:100]}".rstrip()
                self.stopped.set_result(special(answer) or Fault("status", said))

    # pages

    def _on_page(self, page: Page) -> None:
        self._main = self._main or page
        page.on("crash", self._on_crash)
        page.on("websocket", self._on_websocket)

    def _on_crash(self, page: Page) -> None:
        if page is self._main and not self.stopped.done():
            self.stopped.set_result(Fault("browser", f"the page crashed: {shown(page.url, self._secrets)}"))

    def _on_websocket(self, socket: WebSocket) -> None:
        self._meet(host_of(socket.url[:2048].replace("ws", "http", 1)))

    def _on_console(self, message: ConsoleMessage) -> None:
        self._messages += 1
        if self._messages >= _MOST_MESSAGES and self._context:
            self._context.remove_listener("console", self._on_console)
        level, text, url = message.type, message.text[:2000], str(message.location.get("url") or "")
        self._console.append((self._step, level, text))
        if remark := console(level, text, url, self._hosts):
            self._add(remark, self._step)

    def _on_page_error(self, error: WebError) -> None:
        told = error.error
        message, page = told.message[:2000], error.page
        self._console.append((self._step, "page error", message))
        if self._over or (is_html_as_script(message) and self._step in self._mistyped):
            return                                           # the file was told already
        at = getattr(error, "location", None) or {}
        where = str(at.get("url") or "") or (page.url if page else "")
        self._add(page_error((told.name or "")[:100], message, told.stack or "", where, self._hosts), self._step)

    def _take(self, reading: Reading, step: str, url: str) -> None:
        known = self._documents.get(reading.document)
        if known is None:
            if len(self._documents) >= _MOST_DOCUMENTS:
                return
            known = self._documents[reading.document] = _Document(step, Reading(reading.document))
            if reading.noindex:
                self._found.add("robots", "", step=step, url=url, fixed=True)
        said = soft_error(reading.title, reading.headings, reading.alerts, reading.printed)
        old = known.reading
        if said and said != soft_error(old.title, old.headings, old.alerts, old.printed):
            text = " · ".join((reading.title, *reading.headings[:2], *reading.alerts[:3], *reading.printed[:1]))
            self._found.add("soft_error", said, step=step, url=url, text=text, fixed=True)
        for hashed, begins in reading.scripts:
            if hashed not in known.scripts and len(known.scripts) < 200:
                known.scripts.add(hashed)
                self._found.add("script", hashed, step=step, text=begins, fixed=True)
        known.reading = reading


def _frame(request: Request) -> Frame | None:
    """The frame that asked; None for a service worker, and while the page is not there yet."""
    try:
        return request.frame
    except Error:
        return None
