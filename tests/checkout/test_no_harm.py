"""However a flow is written: no order beyond the step before which it stops, no second one, none that nobody hears of; and whose fault it is."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Error, async_playwright
from till_stage import CARD, CHROMIUM, Till, opened

from probes.checkout import engine, faults
from probes.checkout.browsers import launch
from probes.checkout.flow import Refused, Stopped
from probes.checkout.job import Job, Launch
from probes.checkout.limits import Guard, OneRun
from probes.sample import Outcome

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it"), pytest.mark.asyncio(loop_scope="module"),
              pytest.mark.timeout(180)]                    # on a busy machine every run takes its time
NOON = SimpleNamespace(time=lambda: 20_000.5 * 86_400)

BEFORE = """
import asyncio
import sys

def button(flow):
    return flow.page.get_by_role("button", name="Pay now")

def thanks(flow):
    return expect(flow.page.get_by_role("heading", name="Thank you")).to_be_visible()

async def fill(flow):
    await flow.page.goto("/checkout?product=sencha")
    await flow.page.get_by_label("Name on card").fill(flow.vars["name"])
    await flow.page.get_by_label("E-mail").fill(flow.vars["email"])
    await flow.page.get_by_label("Card number").fill(flow.secret("card"))

async def checkout(flow):
    async with flow.step("checkout"):
        await fill(flow)
"""
A_STEP = """
import asyncio
import sys

async def checkout(flow):
    page = flow.page
    async with flow.step("a"):
        await page.goto("/sorry")
        %s
    async with flow.step("payment"):
        pass
"""
WENT_ON = 'the flow went on after "payment", before which it is to stop'


async def sorry(_request: web.Request) -> web.Response:
    return web.Response(text="""<h1>Hello</h1><a href="http://psp.example/pay">Pay there</a><a href="/cut">Cut</a> <a href="http://127.0.0.1:2/">Refused</a>
        <iframe src="http://js.cards.example/field"></iframe><script>function shut() { throw new Error("connection closed") }</script>""",
                        content_type="text/html")


async def none(_request: web.Request) -> web.Response:
    return web.Response(status=204)


async def busy(_request: web.Request) -> web.Response:
    return web.Response(status=503, text="<title>Maintenance</title>", content_type="text/html", headers={"Retry-After": "60"})


async def cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def elsewhere(_request: web.Request) -> web.Response:
    raise web.HTTPFound("http://psp.example/pay")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Till]:
    pages = web.get("/sorry", sorry), web.get("/none", none), web.get("/busy", busy), web.get("/elsewhere", elsewhere), web.get("/cut", cut)
    async with opened(tmp_path_factory.mktemp("harm"), *pages) as stage:
        yield stage


@pytest.fixture(autouse=True)
def forgetful(till: Till) -> None:
    till.checkpoint = None


@pytest.mark.parametrize(("end", "reason", "words"), [
    ("""
    try:
        async with flow.step("payment"):
            pass
    except BaseException:
        pass
    await button(flow).click()
    await thanks(flow)
""", "refused", WENT_ON),
    ("""
    try:
        async with flow.step("payment"):
            pass
    except BaseException:
        pass
    async with flow.step("thanks"):
        await button(flow).click()
""", "refused", WENT_ON),
    ("""
    try:
        async with flow.step("payment"):
            pass
    except BaseException:
        pass
""", "refused", WENT_ON),
    ("""
    try:
        async with flow.step("payment"):
            pass
    finally:
        await button(flow).click()
""", "", ""),
    ("""
    try:
        async with flow.step("payment"):
            pass
    except BaseException:
        await flow.page.request.post("/checkout/payment")
""", "refused", WENT_ON),
    ("""
    async def later():
        await asyncio.sleep(0.01)
        await button(flow).click()
    flow.later = asyncio.create_task(later())
    async with flow.step("payment"):
        pass
""", "", ""),
    ("""
    async with flow.step("more"):
        try:
            async with flow.step("payment"):
                pass
        except Exception:
            pass
        await button(flow).click()
        await thanks(flow)
""", "", ""),
    ("""
    async def end():
        async with flow.step("payment"):
            pass
    async with asyncio.TaskGroup() as group:
        group.create_task(end())
""", "", ""),
    ("""
    flow.step("payment")
    await button(flow).click()
    await thanks(flow)
""", "refused", "so it would not stop there"),
    ("""
    async def never():
        async with flow.step("payment"):
            pass
""", "flow", 'ended without coming to "payment"'),
])
async def test_no_way_of_writing_leads_beyond_the_step_before_which_a_flow_stops(till: Till, end: str, reason: str, words: str) -> None:
    placed = len(till.orders)
    sample = await till.buy(BEFORE + end)
    await asyncio.sleep(0.1)
    assert not any(request.method == "POST" for request in till.asked)
    assert len(till.orders) == placed
    assert (sample.reason, words in sample.evidence) == (reason, True), sample.evidence


async def test_who_was_refused_can_do_nothing_more(till: Till) -> None:
    placed = len(till.orders)
    sample = await till.buy(BEFORE + """
    async with flow.step("payment"):
        await flow.submit(button(flow))
        await thanks(flow)
    try:
        await flow.submit(button(flow))
    except BaseException:
        pass
    async with flow.step("again"):
        await fill(flow)
        await button(flow).click()
""", stop_before="")
    assert (sample.reason, "a second time" in sample.evidence) == ("refused", True), sample.evidence
    assert len(till.orders) == placed + 1


async def test_a_flow_that_does_not_let_itself_be_ended_is_cut_off(till: Till) -> None:
    source = BEFORE + """
    async with flow.step("wait"):
        while True:
            try:
                await asyncio.sleep(0.1)
                await flow.page.evaluate("fetch('/none').catch(() => 0)")
            except BaseException:
                pass
    async with flow.step("payment"):
        pass
"""
    for seconds in (2, 6, 18):                             # a busy machine may need a quarter of the time to begin, or ask next to nothing
        assert (await till.buy(A_STEP % "pass")).outcome is Outcome.OK
        sample = await till.buy(source, timeout=f"{seconds}s", step_timeout=f"{seconds}s")
        assert sample.reason in {"timeout", "browser"}, sample.evidence
        await asyncio.sleep(0.1)                           # what was on its way
        asked = len(till.asked)
        await asyncio.sleep(0.3)
        assert len(till.asked) == asked
        if sample.reason == "timeout" and asked > 3:
            break
    assert (sample.outcome, sample.reason) == (Outcome.FAILED, "timeout"), sample.evidence
    assert asked > 3
    assert (await till.buy()).outcome is Outcome.OK


async def test_asking_whether_it_may_is_no_time_of_the_shops(till: Till) -> None:
    class Slow(OneRun):
        async def take(self, target: Any, run: str, cycle: float) -> str:
            await asyncio.sleep(asking)
            return await super().take(target, run, cycle)
    till.clients.provide(Guard, Slow())  # type: ignore[type-abstract]
    try:
        for asking in (1.0, 4.0, 16.0):                    # what the step itself takes is less, but for a busy machine
            sample = await till.buy(BEFORE + """
    async with flow.step("pay"):
        await flow.submit(button(flow))
        await thanks(flow)
""", stop_before="")
            assert (sample.outcome, [step.name for step in sample.steps]) == (Outcome.OK, ["checkout", "pay"]), sample.evidence
            if sample.steps[-1].seconds < asking:
                break
    finally:
        till.clients.provide(Guard, OneRun())  # type: ignore[type-abstract]
    assert sample.steps[-1].seconds < asking


async def test_runs_that_never_came_as_far_as_the_shop_are_not_counted(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a typing error of the morning, mended at noon, leaves the shop unwatched until midnight."""
    monkeypatch.setattr("probes.checkout.probe.time", NOON)
    keys = {"stop_before": "", "interval": "24h", "max_runs_per_day": 1}
    for source in ("async def checkout(flow:\n", "# 4532 0151 1283 0366\n", "1 / 0\n"):
        assert (await till.buy(source, **keys)).outcome is Outcome.BROKEN
    assert (await till.buy(None, **keys | {"flow": "nowhere.py"})).reason == "flow"
    fine = "async def checkout(flow):\n    async with flow.step('a'):\n        pass\n"
    assert [(await till.buy(fine, **keys)).reason for _ in range(2)] == ["", "capped"]


async def test_an_order_of_which_nobody_knows_the_number_is_told(till: Till) -> None:
    sample = await till.buy(BEFORE + """
    async with flow.step("payment"):
        await flow.submit(button(flow))
        await expect(flow.page.get_by_text("no such text")).to_be_visible(timeout=300)
""", stop_before="")
    assert "an order may have been placed, and its number is not known" in sample.evidence
    lost = await till.buy(BEFORE + """
    async with flow.step("payment"):
        await flow.submit(button(flow))
        import os
        os._exit(1)
""", stop_before="")
    assert (lost.reason, "an order may have been placed" in lost.evidence) == ("browser", True), lost.evidence
    later = await till.buy()
    assert re.fullmatch(r"orders of unknown number may be left of the runs [0-9a-f]{8}, [0-9a-f]{8}", later.evidence)


async def test_an_order_is_known_before_a_browser_can_hang_over_the_evidence(till: Till) -> None:
    said: list[Mapping[str, Any]] = []

    async def say(message: Mapping[str, Any]) -> None:
        said.append(message)

    async def ask() -> str:
        return ""
    settings = Launch(no_sandbox=True)
    source = "async def checkout(flow):\n    async with flow.step('a'):\n        flow.order('KL-1')\n        flow.order('a ' + flow.secret('card'))\n"
    job = Job("r1", "checkout", till.url, 40.0, settings, source=source, secrets={"card": CARD})
    async with async_playwright() as playwright:
        browser = await launch(playwright, settings)
        await engine.run(browser, job, say, ask, playwright.devices)
        await browser.close()
    first = next(message["report"] for message in said if message["t"] == "report")
    assert first["orders"] == ["KL-1", "a [hidden]"]


WENT = """
        while page.url.startswith("http"):                 # until what was asked for could not be had
            await page.wait_for_timeout(50)
        """


@pytest.mark.parametrize(("line", "reason", "words"), [
    ('await page.locator("div[").click()', "flow", "while parsing css selector"),
    ('await page.locator("xpath=//[").click()', "flow", "no valid"),
    ('await page.locator("nosuch=x").click()', "flow", "Unknown engine"),
    ('await page.keyboard.press("Nokey")', "flow", "Unknown key"),
    ('await page.goto("http://")', "flow", "invalid URL"),
    ("sys.exit(3)", "flow", "SystemExit"),
    ("raise asyncio.CancelledError", "flow", "cancelled itself"),
    ("await page.close(); await page.goto('/')", "flow", "the page was closed"),
    (f'await page.get_by_role("link", name="Pay there").click(){WENT}await page.locator("#card").click(timeout=500)', "flow",
     "psp.example is not among the hosts"),
    ('await page.goto("/elsewhere")', "flow", "psp.example is not among the hosts"),
    (f'await page.get_by_role("link", name="Cut").click(){WENT}await page.locator("#card").click(timeout=500)', "disconnected", "ERR_EMPTY_RESPONSE"),
    (f'await page.get_by_role("link", name="Refused").click(){WENT}await page.locator("#card").click(timeout=500)', "connect_refused",
     "http://127.0.0.1:2/: net::ERR_CONNECTION_REFUSED"),
    (f"""await page.get_by_role("link", name="Pay there").click(){WENT}await page.go_back()
        await page.locator("#card").click(timeout=500)""", "step", 'waited for locator("#card")'),
    ('await page.evaluate("shut()")', "step", "connection closed"),
    ('await page.goto("/none")', "step", "ERR_ABORTED"),
    ('await asyncio.wait_for(page.wait_for_event("popup"), 0.2)', "step", "flow.py:12: TimeoutError: it took longer"),
    ('assert await page.locator("h1").inner_text() == "Bye"', "step", "flow.py:12: AssertionError: this did not hold"),
    ('await page.frame_locator("iframe").get_by_label("Card").fill("x", timeout=500)', "step",
     "not reached, as they are not among hosts: js.cards.example"),
    ("""async with asyncio.TaskGroup() as group:
            group.create_task(page.locator("#none").click(timeout=300))""", "step", "Locator.click: Timeout 300ms"),
    ('answer = await page.goto("/busy"); assert answer.ok', "maintenance", "maintenance page"),
    ('await page.goto("/nowhere-at-all")', "status", "answered 404"),
])
async def test_whose_fault_it_is(till: Till, line: str, reason: str, words: str) -> None:
    sample = await till.buy(A_STEP % line)
    assert (sample.reason, words.replace("no valid", "not a valid") in sample.evidence) == (reason, True), sample.evidence
    assert [(step.name, step.reason) for step in sample.steps] == [("a", reason)]


async def test_a_flow_that_stops_before_it_begins_measures_nothing_and_says_so(till: Till) -> None:
    sample = await till.buy("async def checkout(flow):\n    async with flow.step('payment'):\n        pass\n")
    assert (sample.reason, sample.evidence[:34]) == ("flow", 'there is no step before "payment",'), sample.evidence


async def test_a_declared_flow_says_the_same_of_an_error_page(till: Till) -> None:
    steps = [{"name": "a", "do": [{"goto": "/busy"}]}, {"name": "payment", "do": [{"see": "heading: x"}]}]
    assert (await till.buy(step=steps)).reason == "maintenance"


async def test_of_several_errors_the_one_that_says_most_counts() -> None:
    def reason(*errors: BaseException) -> str | None:
        found = faults.fault(BaseExceptionGroup("", [BaseExceptionGroup("", list(errors))]), "flow.py")
        return found.reason if found else None
    assert reason(Stopped()) is None
    assert reason(Stopped(), AssertionError("no")) == "step"
    assert reason(AssertionError("no"), Refused("twice"), Stopped()) == "refused"


@pytest.mark.parametrize(("text", "reason"), [
    ("Page.goto: net::ERR_HTTP2_PROTOCOL_ERROR at https://x/", "protocol"),
    ("Page.goto: net::ERR_SSL_UNRECOGNIZED_NAME_ALERT at https://x/", "tls_protocol"),
    ("Page.goto: net::ERR_CERT_REVOKED at https://x/", "tls_untrusted"), ("Page.goto: net::ERR_ABORTED at chrome://crash", "flow"),
    ("Page.goto: net::ERR_CONNECTION_ABORTED at https://x/", "disconnected"), ("Page.goto: NS_ERROR_CONNECTION_REFUSED", "connect_refused"),
    ("Locator.click: Target page, context or browser has been closed", "browser"), ("Page.goto: Target crashed", "browser"),
    ("Page.evaluate: Error: the page was closed", "step"), ("Connection closed while reading from the driver", "browser"),
])
async def test_what_the_browser_says_of_its_errors(text: str, reason: str) -> None:
    found = faults.fault(Error(text), "flow.py")
    assert found is not None
    assert found.reason == reason
