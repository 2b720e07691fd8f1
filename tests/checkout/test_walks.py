"""A flow from end to end: the probe, the worker, a real browser, a real shop."""

import asyncio
import json
import re
import time
import tomllib
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from processes import Stopwatch
from till_stage import CARD, CHROMIUM, ROOT, Till, opened

from monitor.clock import ManualClock
from monitor.store import Store
from monitor.store.guard import StoredGuard
from probes.artifacts import mentioned
from probes.checkout.limits import Guard, OneRun
from probes.sample import Outcome

SECRET = "hunter2-hunter2"

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it"), pytest.mark.asyncio(loop_scope="module"),
              pytest.mark.timeout(180)]                    # on a busy machine every run takes its time
TRIES = 5                  # a browser that has no processor shows its paints and pictures too late: they are left out, and the next run has them
NOON = SimpleNamespace(time=lambda: 20_000.5 * 86_400)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Till]:
    pages = {"/hang": hang, "/sorry": sorry, "/cached": cached, "/worker.js": worker, "/release": release}
    async with opened(tmp_path_factory.mktemp("till"), *(web.get(path, page) for path, page in pages.items())) as stage:
        yield stage


@pytest.fixture(autouse=True)
def forgetful(till: Till) -> None:
    till.checkpoint = None


async def hang(_request: web.Request) -> web.Response:
    return web.Response(text="<h1>Busy</h1><script>while (true) {}</script>", content_type="text/html")


async def sorry(_request: web.Request) -> web.Response:
    return web.Response(text="<title>Shop</title><h1>Something went wrong</h1>", content_type="text/html")


def declared() -> list[Mapping[str, Any]]:
    return list(tomllib.loads((ROOT / "flows" / "checkout.toml").read_text(encoding="utf-8"))["probe"][0]["step"])


LINES = "async def checkout(flow):\n    async with flow.step('a'):\n        %s\n    async with flow.step('payment'):\n        pass\n"
STEPS = ["home", "category", "product", "basket", "checkout"]
BOTH = pytest.mark.parametrize("form", ["python", "declared"])


@BOTH
async def test_a_guest_walks_as_far_as_payment(till: Till, form: str) -> None:
    for _ in range(TRIES):
        sample = await till.buy(**({"step": declared()} if form == "declared" else {}))
        assert (sample.outcome, sample.reason, sample.evidence) == (Outcome.OK, "", "")
        assert [step.name for step in sample.steps] == STEPS
        assert sample.seconds == pytest.approx(sum(step.seconds for step in sample.steps))
        assert {name for name in sample.counts if name.startswith("signature/")} == set()
        assert not any(request.path == "/checkout/payment" for request in till.asked)
        assert not till.orders
        painted = {name for name in sample.values if name.startswith("lcp/")}
        if len(painted) == len(STEPS):
            break
    assert painted == {f"lcp/{name}" for name in STEPS}


@BOTH
async def test_a_guest_pays_once_and_the_order_is_taken_back(till: Till, form: str) -> None:
    cleanup = {"url": f"{till.url}/order/{{order}}/cancel"}
    sample = await till.buy(stop_before="", cleanup=cleanup, **({"step": declared()} if form == "declared" else {}))
    assert (sample.outcome, sample.evidence) == (Outcome.OK, "")
    assert [step.name for step in sample.steps] == [*STEPS, "payment"]
    assert [request.path for request in till.asked].count("/checkout/payment") == 1
    assert till.orders[-1].cancelled
    assert sample.facts["orders_open"] == 0


async def test_an_order_that_could_not_be_taken_back_is_tried_again(till: Till) -> None:
    first = await till.buy(stop_before="", cleanup={"url": f"{till.url}/nowhere/{{order}}"})
    number = till.orders[-1].id
    assert number in first.evidence
    assert first.facts["orders_open"] == 1
    second = await till.buy(cleanup={"url": f"{till.url}/order/{{order}}/cancel"})
    assert second.evidence == ""
    assert till.orders[-1].cancelled


async def test_a_flow_takes_back_what_it_ordered_by_itself(till: Till) -> None:
    source = (ROOT / "flows" / "checkout.py").read_text(encoding="utf-8").partition("from playwright.async_api import expect")[2]
    sample = await till.buy("import re\n" + source + """

async def cleanup(flow, order):
    await flow.page.goto(f"/order/{order}")
    await flow.page.get_by_role("button", name="Cancel this order").click()
    await expect(flow.page.get_by_text("is cancelled")).to_be_visible()
""", stop_before="")
    assert (sample.outcome, sample.evidence) == (Outcome.OK, "")
    assert till.orders[-1].cancelled


async def test_a_flow_takes_back_what_an_earlier_run_could_not(till: Till) -> None:
    source = (ROOT / "flows" / "checkout.py").read_text(encoding="utf-8").partition("from playwright.async_api import expect")[2]
    first = await till.buy("import re\n" + source + """

async def cleanup(flow, order):
    assert order == "today", "the office is closed"
""", stop_before="")
    number = till.orders[-1].id
    assert (first.outcome, first.evidence) == (Outcome.OK, f"cleanup of an order: the office is closed; orders to be cancelled by hand: {number}")
    second = await till.buy("import re\n" + source + """

async def cleanup(flow, order):
    await flow.page.goto(f"/order/{order}")
    await flow.page.get_by_role("button", name="Cancel this order").click()
    await expect(flow.page.get_by_text("is cancelled")).to_be_visible()
""", stop_before="")
    assert (second.outcome, second.evidence, second.facts.get("orders_open")) == (Outcome.OK, "", None)
    assert number == till.orders[-2].id
    assert [order.cancelled for order in till.orders[-2:]] == [True, True]


async def test_a_run_that_was_never_heard_of_again_is_told_by_the_later_ones(till: Till, tmp_path: Path) -> None:
    """As after `kill -9` between the click and the sample: only what the disk has is left of it."""
    (tmp_path / "state").mkdir(mode=0o700)
    async with Store(tmp_path / "state") as store:
        clock = ManualClock(time.time())
        till.clients.provide(Guard, StoredGuard(store, clock))  # type: ignore[type-abstract]
        try:
            before = till.checkpoint
            assert (await till.buy(stop_before="")).outcome is Outcome.OK
            (run,) = {request.headers["X-Tillwatch"].split()[1] for request in till.asked}
            till.checkpoint, told = before, []
            for _ in range(2):
                clock.at += 600
                told.append((await till.buy(stop_before="", cleanup={"command": ["/bin/true", "{order}"]})).evidence)
        finally:
            till.clients.provide(Guard, OneRun())  # type: ignore[type-abstract]
    assert told == [f"orders of unknown number may be left of the runs {run}"] * 2


async def test_the_shop_can_tell_who_it_is(till: Till) -> None:
    await till.buy()
    first = next(request for request in till.asked if request.path == "/")
    assert re.fullmatch(r"checkout [0-9a-f]{8}", first.headers["X-Tillwatch"])
    assert first.cookies["tillwatch"] == first.headers["X-Tillwatch"].split()[1]
    assert "Headless" not in first.headers["User-Agent"]


async def test_each_device_has_its_own_window(till: Till) -> None:
    sample = await till.buy(devices=["iPhone 15"])
    assert (sample.outcome, sample.device) == (Outcome.OK, "iPhone 15")
    assert "iPhone" in till.asked[0].headers["User-Agent"]


async def test_what_did_not_come_out_is_told_with_its_evidence(till: Till) -> None:
    """And nothing that was typed is in any of it."""
    source = """
async def checkout(flow):
    async with flow.step("search"):
        await flow.page.goto("/search?q=tea")
        await flow.page.get_by_label("Search").fill(flow.secret("code"))
    async with flow.step("basket"):
        await flow.page.get_by_role("button", name="Put it in").click(timeout=700)
    async with flow.step("payment"):
        pass
"""
    for _ in range(TRIES):
        sample = await till.buy(source, secrets={"code": SECRET})
        assert (sample.outcome, sample.reason) == (Outcome.FAILED, "step")
        told = 'step "basket": Locator.click: Timeout 700ms exceeded. (waited for get_by_role("button", name="Put it in"))'
        assert sample.evidence.startswith(told)
        assert [(step.name, step.reason) for step in sample.steps] == [("search", ""), ("basket", "step")]
        left = till.evidence(sample)
        assert not any(SECRET.encode() in data for data in left.values())
        assert SECRET not in repr(sample)
        if len(left) == 3:
            break
    assert left.keys() == {"screenshot", "page", "details"}
    assert left["screenshot"].startswith(b"\x89PNG")
    assert json.loads(left["details"])["step"] == "basket"


async def test_an_error_page_ends_the_flow_at_once(till: Till) -> None:
    """Not when a button of the page that never comes has been waited for."""
    source = """
async def checkout(flow):
    async with flow.step("product"):
        await flow.page.goto("/product/nothing-of-the-kind")
        await flow.page.get_by_role("button", name="Add to basket").click()
    async with flow.step("payment"):
        pass
"""
    with Stopwatch() as watch:
        sample = await till.buy(source)
        kept = watch.kept
    assert (sample.outcome, sample.reason) == (Outcome.FAILED, "status")
    assert "answered 404" in sample.evidence
    assert sample.seconds < 3 + kept


async def test_a_page_that_apologises_is_named(till: Till) -> None:
    source = """
async def checkout(flow):
    async with flow.step("home"):
        await flow.page.goto("/sorry")
        %s
    async with flow.step("payment"):
        pass
"""
    waited = await till.buy(source % 'await flow.page.get_by_role("button", name="Add").click(timeout=500)')
    assert (waited.reason, "Something went wrong" in waited.evidence) == ("step", True), waited.evidence
    walked = await till.buy(source % "pass")
    assert (walked.outcome, walked.counts["soft_errors"]) == (Outcome.OK, 1)
    assert [name for name in walked.counts if name.startswith("signature/error:")] == ["signature/error:page says something went wrong at /sorry"]
    strict = await till.buy(source % "pass", fail_on=["soft_error"])
    assert (strict.outcome, strict.reason) == (Outcome.FAILED, "finding")
    assert "Something went wrong" in strict.evidence


async def test_a_page_that_never_ends_is_the_shops_fault(till: Till) -> None:
    source = """
async def checkout(flow):
    async with flow.step("hang"):
        await flow.page.goto("/hang", wait_until="commit")
        await flow.page.evaluate("1 + 1")
    async with flow.step("payment"):
        pass
"""
    for seconds in (2, 6, 18):                             # it is the browser's own fault where that takes a quarter of the time to begin
        assert (await till.buy(LINES % "pass")).outcome is Outcome.OK
        sample = await till.buy(source, timeout=f"{seconds}s", step_timeout=f"{seconds}s")
        if sample.reason != "browser":
            break
    assert (sample.outcome, sample.reason) == (Outcome.FAILED, "timeout"), sample.evidence
    told = re.match(r'step "hang": the flow was not over after ([\d.]+) s', sample.evidence)
    assert told, sample.evidence
    assert 0.7 * seconds < float(told[1]) <= seconds
    assert (await till.buy()).outcome is Outcome.OK


@pytest.mark.parametrize(("source", "keys", "reason", "words"), [
    (LINES % "missing()", {}, "flow", "flow.py:6: NameError"),
    ("async def checkout(flow:\n", {}, "flow", "flow.py:4"),
    ("def checkout(flow):\n    flow.step('payment')\n", {}, "flow", "no `async def checkout(flow)`"),
    (LINES % "flow.secret('pin')", {}, "flow", 'no secret "pin"'),
    ("async def checkout(flow):\n    async with flow.step('pay'):\n        pass\n", {}, "refused", "so it would not stop there"),
    ("async def checkout(flow):\n    for name in ('a', 'payment'):\n        async with flow.step(name):\n            pass\n", {},
     "refused", "not written out"),
    (LINES % "'4532 0151 1283 0366'", {}, "refused", "no known test card"),
    (None, {"secrets": {"card": {"file": "card"}}}, "refused", "no known test card"),
    (None, {"secrets": {"card": {"env": "NO_SUCH_CARD"}}}, "settings", "NO_SUCH_CARD"),
    (None, {"flow": "nowhere.py"}, "flow", "No such file"),
    (LINES % "await flow.page.goto('http://elsewhere.example/')", {}, "flow", "elsewhere.example is not among the hosts of this probe"),
])
async def test_what_is_our_fault_or_refused_is_never_the_shops(till: Till, source: str | None, keys: dict[str, Any], reason: str, words: str) -> None:
    (till.folder / "card").write_text("4532015112830366")
    sample = await till.buy(source, **keys)
    assert (sample.outcome, sample.reason) == (Outcome.BROKEN, reason), sample.evidence
    assert words in sample.evidence
    assert "4532015112830366" not in sample.evidence
    assert not till.asked or reason == "flow"


async def test_a_second_order_in_one_run_is_refused_before_the_click(till: Till) -> None:
    placed = len(till.orders)
    sample = await till.buy("""
async def checkout(flow):
    page = flow.page
    for number in (1, 2):
        async with flow.step(f"order {number}"):
            await page.goto("/checkout?product=sencha")
            await page.get_by_label("Name on card").fill(flow.vars["name"])
            await page.get_by_label("E-mail").fill(flow.vars["email"])
            await page.get_by_label("Card number").fill(flow.secret("card"))
            await flow.submit(page.get_by_role("button", name="Pay now"))
            await expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
            flow.order(await page.locator("#order").inner_text())
""", stop_before="")
    assert (sample.outcome, sample.reason) == (Outcome.BROKEN, "refused")
    assert "a second time" in sample.evidence
    assert len(till.orders) == placed + 1
    assert till.orders[-1].id in sample.evidence             # nobody cancels it, so somebody has to hear of it


async def test_a_flow_that_is_to_stop_cannot_submit(till: Till) -> None:
    sample = await till.buy("""
async def checkout(flow):
    async with flow.step("sneak"):
        await flow.page.goto("/checkout?product=sencha")
        await flow.submit(flow.page.get_by_role("button", name="Pay now"))
    async with flow.step("payment"):
        pass
""")
    assert (sample.outcome, sample.reason) == (Outcome.BROKEN, "refused")
    assert not any(request.path == "/checkout/payment" for request in till.asked)


async def test_a_guard_that_cannot_record_lets_nobody_pay(till: Till) -> None:
    class Full(OneRun):
        async def take(self, target: Any, run: str, cycle: float) -> str:
            return "the store cannot write"
    till.clients.provide(Guard, Full())  # type: ignore[type-abstract]
    try:
        sample = await till.buy(stop_before="")
    finally:
        till.clients.provide(Guard, OneRun())  # type: ignore[type-abstract]
    assert (sample.outcome, sample.reason, "the store cannot write" in sample.evidence) == (Outcome.BROKEN, "refused", True)
    assert not any(request.path == "/checkout/payment" for request in till.asked)


async def test_the_daily_limit_holds_across_runs(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.checkout.probe.time", NOON)
    outcomes = [(await till.buy("async def checkout(flow):\n    async with flow.step('a'):\n        pass\n", stop_before="", max_runs_per_day=2,
                                interval="24h")).reason for _ in range(3)]
    assert outcomes == ["", "", "capped"]


async def test_other_hosts_cannot_be_reached_and_are_noted(till: Till) -> None:
    sample = await till.buy("""
async def checkout(flow):
    async with flow.step("home"):
        await flow.page.goto("/sorry")
        await flow.page.evaluate("fetch('http://ads.example/pixel').catch(() => 1)")
    async with flow.step("payment"):
        pass
""")
    assert sample.outcome is Outcome.OK
    assert sample.counts["signature/noted:third party ads.example"] == 1
    assert sample.counts["third_party_hosts"] == 1
    assert sample.counts["failed_requests"] == 0


async def test_a_returning_customer_brings_what_was_kept_before(till: Till) -> None:
    source = """
async def checkout(flow):
    async with flow.step("home"):
        await flow.page.goto("/")
        seen = await flow.page.evaluate("localStorage.seen || ''")
        await flow.page.evaluate("localStorage.seen = (localStorage.seen || '') + 'x'")
        flow.vars["cookies"] = str(len(await flow.page.context.cookies()))
        assert seen == %r, f"kept {seen!r}"
    async with flow.step("payment"):
        pass
"""
    keys = {"profile": "returning", "name": "returning"}
    first, second, third = await till.buy(source % "", **keys), await till.buy(source % "x", **keys), await till.buy(source % "x", **keys)
    assert [(sample.outcome, sample.overloaded) for sample in (first, second, third)] == [
        (Outcome.OK, True), (Outcome.OK, False), (Outcome.OK, False)], (first.evidence, second.evidence, third.evidence)
    assert (await till.buy(source % "", name="returning")).outcome is Outcome.OK         # and the clean one stays clean


RELEASE = {"now": "old"}


async def cached(_request: web.Request) -> web.Response:
    """A page whose service worker keeps the script of the release in which it was installed."""
    return web.Response(content_type="text/html", text="""<h1>App</h1><script>
        navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => document.title = 'ready');
        fetch('/release').then(r => r.text()).then(t => document.querySelector('h1').textContent = 'release ' + t);</script>""")


async def worker(_request: web.Request) -> web.Response:
    return web.Response(content_type="text/javascript", text="""
        self.addEventListener('install', e => e.waitUntil(caches.open('v').then(c => c.add('/release')).then(() => self.skipWaiting())));
        self.addEventListener('activate', e => e.waitUntil(self.clients.claim()));
        self.addEventListener('fetch', e => { if (e.request.url.endsWith('/release')) e.respondWith(caches.match('/release')); });""")


async def release(_request: web.Request) -> web.Response:
    return web.Response(text=RELEASE["now"])


async def test_only_a_returning_customer_meets_a_stale_service_worker(till: Till) -> None:
    """What an update breaks for those who were there before it, and for nobody else."""
    source = """
async def checkout(flow):
    async with flow.step("app"):
        await flow.page.goto("/cached", timeout=30000)
        await expect(flow.page).to_have_title("ready", timeout=30000)
        await expect(flow.page.get_by_role("heading", name="release %s")).to_be_visible()
    async with flow.step("payment"):
        pass
"""
    RELEASE["now"] = "old"
    assert (await till.buy(source % "old", profile="returning", name="stale")).outcome is Outcome.OK
    RELEASE["now"] = "new"
    clean = await till.buy(source % "new", name="fresh")
    returning = await till.buy(source % "new", profile="returning", name="stale", step_timeout="1s")
    assert (clean.outcome, returning.outcome, returning.reason) == (Outcome.OK, Outcome.FAILED, "step"), (clean.evidence, returning.evidence)
    assert 'waited for get_by_role("heading", name="release new")' in returning.evidence
    assert (await till.buy(source % "old", profile="returning", name="stale")).outcome is Outcome.OK       # however often: the visit stays


async def test_a_run_that_is_cancelled_leaves_the_browser_usable(till: Till) -> None:
    running = asyncio.create_task(till.buy())
    await asyncio.sleep(0.4)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert (await till.buy()).outcome is Outcome.OK


async def test_a_trace_holds_what_was_done_and_nothing_that_was_typed(till: Till) -> None:
    sample = await till.buy(trace="on", stop_before="", cleanup={"url": f"{till.url}/order/{{order}}/cancel"}, secrets={"card": CARD},
                            variables={"email": "someone.private@shop.example"})
    assert sample.outcome is Outcome.OK
    name = dict(mentioned(sample.evidence))["trace"]
    with zipfile.ZipFile(till.folder / "artifacts" / name) as archive:
        written = b"".join(archive.read(entry) for entry in archive.namelist())
    assert b"click" in written
    assert not any(word in written for word in (CARD.encode(), b"4242", b"someone.private"))
