"""Web vitals in a real Chromium: what is measured, and what a page cannot make of it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from bad_shop import CHROMIUM, SHOP, BadShop
from playwright.async_api import Browser, Page

from probes.checkout import record
from probes.checkout.record import Recorder
from probes.checkout.vitals import Reading, Vitals, parsed

browsing = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def reading(browser: Browser, url: str, loading: float = 20) -> Reading | None:
    context, vitals = await browser.new_context(), Vitals()
    await context.add_init_script(vitals.script)
    page = await context.new_page()
    await page.goto(url, wait_until="commit")
    told = await vitals.read(page, loading, 20)
    await context.close()
    return told


@asynccontextmanager
async def recorded(browser: Browser) -> AsyncIterator[tuple[Recorder, Page]]:
    """A page in a context of its own, and who listens to it."""
    context, recorder = await browser.new_context(), Recorder(SHOP)
    await recorder.attach(context)
    yield recorder, await context.new_page()
    await recorder.close()
    await context.close()


async def settled(recorder: Recorder, page: Page, enough: Callable[[], bool]) -> None:
    """Look until all is there: on a busy machine paints come late."""
    end = monotonic() + 20
    await recorder.settle(page)
    while not enough():
        assert monotonic() < end, (recorder.values(), recorder.facts())
        await recorder.settle(page)


@browsing
async def test_vitals_belong_to_the_document_and_to_the_step_that_loaded_it(browser: Browser, shop: BadShop) -> None:
    async with recorded(browser) as (recorder, page):
        recorder.step("open")
        await page.goto(shop.url("/vitals"))
        await settled(recorder, page, lambda: "lcp/open" in recorder.values() and recorder.facts()["cls"] > 0)
        assert "inp/open" not in recorder.values()
        recorder.step("work")
        await page.click("#b")
        await settled(recorder, page, lambda: "inp/open" in recorder.values())
        recorder.step("home")
        await page.goto(shop.url("/"))
        await settled(recorder, page, lambda: "lcp/home" in recorder.values())
    values, facts = recorder.values(), recorder.facts()
    assert values.keys() == {"ttfb/open", "fcp/open", "lcp/open", "inp/open", "ttfb/home", "fcp/home", "lcp/home"}
    assert 0 < values["ttfb/open"] < values["fcp/open"] <= values["lcp/open"] < 5
    assert 0.1 < values["inp/open"] < 2
    assert facts["inp"] == values["inp/open"]
    assert facts["lcp"] == max(values["lcp/open"], values["lcp/home"])
    assert 0.01 < facts["cls"] < 2
    assert recorder.counts()["bytes"] > 1000


@browsing
async def test_a_document_is_read_when_it_was_loaded_or_has_had_its_time(browser: Browser, shop: BadShop) -> None:
    early, loaded = await reading(browser, shop.url("/loading"), 0.05), await reading(browser, shop.url("/loading?in-the-end"))
    assert early is not None
    assert loaded is not None
    assert (early.title, loaded.title) == ("A shop", "All there")


@browsing
async def test_a_document_that_goes_on_to_another_one_is_read_as_the_other_one(
    browser: Browser, shop: BadShop, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record, "_LOADING", 20.0)
    monkeypatch.setattr(record, "_SETTLING", 20.0)          # on a busy machine the other one comes late
    async with recorded(browser) as (recorder, page):
        recorder.step("leave")
        await page.goto(shop.url("/leaving"), wait_until="commit")
        await recorder.settle(page)
    assert "ttfb/leave" in recorder.values()


@browsing
async def test_a_page_that_replaces_what_javascript_has_is_read_all_the_same(browser: Browser, shop: BadShop) -> None:
    told = await reading(browser, shop.url("/overridden"))
    assert told is not None
    assert (told.title, told.headings, len(told.scripts)) == ("A shop", ("Blue shirt",), 1)
    assert told.scripts[0][1].startswith("JSON.stringify = ()")


@browsing
async def test_a_page_that_lies_is_not_believed(browser: Browser, shop: BadShop) -> None:
    told = await reading(browser, shop.url("/lies"))
    assert told is not None
    assert (told.ttfb, told.fcp, told.lcp, told.title) == (0, 0, 0, "A shop")


@browsing
@pytest.mark.parametrize("path", ["/no-map", "/huge"])
async def test_what_is_read_is_bounded(browser: Browser, shop: BadShop, path: str) -> None:
    told = await reading(browser, shop.url(path))
    assert told is None or len(repr(told)) < 5000


@browsing
async def test_each_run_has_a_name_of_its_own() -> None:
    assert Vitals().script != Vitals().script


GOOD = {"document": "1-2", "ttfb": 120.5, "fcp": 300, "lcp": 900, "inp": 0, "cls": 0.1, "sent": 1000, "bytes": 500, "title": "A shop",
        "headings": {"0": "One"}, "alerts": {}, "printed": {}, "robots": {"0": "NoIndex, follow"}, "scripts": {"0": "1.255 go()"}}


async def test_what_a_document_tells() -> None:
    told = parsed(json.dumps(GOOD))
    assert told == Reading("1-2", 0.1205, 0.3, 0.9, 0.0, 0.1, 1500, "A shop", ("One",), noindex=True, scripts=(("00000001000000ff"[:12], "go()"),))


@pytest.mark.parametrize("told", [
    None, 7, "", "null", "[]", "{", '"x"', "{}", '{"document": "<b>"}', '{"document": 7}', "[" * 100_000, "x" * 300_000])
async def test_what_is_no_reading(told: object) -> None:
    assert parsed(told) is None


@pytest.mark.parametrize("value", [None, "7", True, -1, 1e99, float("nan"), float("inf"), [], {}])
async def test_numbers_that_cannot_be(value: object) -> None:
    told = parsed(json.dumps(GOOD | dict.fromkeys(("ttfb", "fcp", "lcp", "inp", "cls", "sent", "bytes"), value)))
    assert told is not None
    assert (told.ttfb, told.fcp, told.lcp, told.inp, told.cls, told.bytes) == (0, 0, 0, 0, 0, 0)


async def test_lists_that_cannot_be() -> None:
    wrong = {"headings": ["x"], "alerts": "x", "printed": {"0": 7}, "robots": {"0": {}}, "scripts": {str(n): "x" for n in range(1000)}, "title": []}
    told = parsed(json.dumps(GOOD | wrong))
    assert told is not None
    assert (told.headings, told.alerts, told.printed, told.noindex, told.scripts, told.title) == ((), (), ("",), False, (), "")
