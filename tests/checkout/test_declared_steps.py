"""Declared steps: what is refused with which words, and what each action does in a real browser."""

import contextlib
import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from flow_stage import CHROMIUM, SECRET, Stage, chromium, kettle, shop, stage
from playwright.async_api import Browser, Error
from playwright.async_api import TimeoutError as TooLate
from pydantic import ValidationError

from probes.checkout.flow import FlowError, Refused, Stopped
from probes.checkout.steps import ACTIONS, DeclaredStep, insert, unknown_names
from probes.checkout.walk import _ACTIONS, _fits, walk

ROOT = Path(__file__).resolve().parents[2]
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")


def step(*do: dict[str, Any], **more: Any) -> DeclaredStep:
    return DeclaredStep.model_validate({"name": "s", "do": list(do), **more})


REFUSED: list[tuple[dict[str, Any], str, str]] = [      # action, the key that is named, words
    ({}, "", "says nothing to do: one of goto, click"),
    ({"clik": "button: A"}, "clik", "Extra inputs"),
    ({"click": "button: A", "see": "text: B"}, "", "one action in each { }, not click and see"),
    ({"click": "Add"}, "click", "say first what it is"),
    ({"click": 3}, "click", "string"),
    ({"see": ["text: a", "b"]}, "see", "say first what it is"),
    ({"see": []}, "see", "at least 1"),
    ({"fill": {"E-mail": "x"}}, "fill", "say first what it is"),
    ({"fill": {}}, "fill", "at least 1"),
    ({"fill": "label: E-mail"}, "fill", "dictionary"),
    ({"goto": "product"}, "goto", 'write a path such as "/product/sencha"'),
    ({"goto": "//evil.example"}, "goto", "write a path"),
    ({"goto": "javascript:alert(1)"}, "goto", "write a path"),
    ({"see": "text: a", "optional": True}, "", '"optional" cannot stand beside "see"; see has within'),
    ({"fill": {"label: a": "b"}, "within": "2s"}, "", '"within" cannot stand beside "fill"'),
    ({"capture": "css: #a"}, "", 'capture needs as = "NAME"'),
    ({"capture": "css: #a", "as": "Total Sum"}, "as", "pattern"),
    ({"capture": "css: #a", "as": "a", "pattern": "("}, "pattern", "cannot be used"),
    ({"capture": "css: #a", "as": "a", "pattern": "(a)(b)"}, "pattern", "only one part"),
    ({"title": "/(a+)+/"}, "title", "can take for ever"),
    ({"click_and_wait": "button: A"}, "", "click_and_wait needs path"),
    ({"submit": "button: A", "status": 200}, "", "status needs path"),
    ({"count": "css: li", "min": 3, "max": 2}, "", "min is more than max"),
    ({"pause": "31s"}, "pause", "wait for what you are waiting for"),
    ({"pause": 2}, "pause", "write a duration"),
    ({"dialog": "ok"}, "dialog", "'accept' or 'dismiss'"),
    ({"url": "checkout"}, "url", "write a path"),
    ({"see": "text: {secret.card}"}, "", "{secret.card} can only be typed into a field"),
    ({"goto": "/?card={secret.card}"}, "", "can only be typed into a field"),
    ({"scroll": "down"}, "scroll", "say first what it is"),
]


@pytest.mark.parametrize(("action", "key", "words"), REFUSED, ids=lambda part: str(part)[:40])
def test_a_wrong_action_is_refused_with_its_key_and_words(action: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        step({"goto": "/"}, action)
    errors = caught.value.errors()
    assert [error["loc"][:2] for error in errors] == [("do", 1)] * len(errors)
    assert key in errors[0]["loc"] or not key
    assert words in "; ".join(error["msg"] for error in errors)


@pytest.mark.parametrize("table", [{"name": "", "do": [{"goto": "/"}]}, {"name": "a", "do": []}, {"name": "a"},
                                   {"name": "a\nb", "do": [{"goto": "/"}]},

                                   {"name": "a" * 65, "do": [{"goto": "/"}]}, {"name": "a", "do": [{"goto": "/"}], "submit": True}])
def test_a_wrong_step_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeclaredStep.model_validate(table)


def test_a_step_is_the_same_after_its_way_to_the_worker() -> None:
    there = step({"goto": "/"}, {"click": "text: Accept", "optional": True, "within": "1500ms"}, {"see": "text: a"}, {"see": ["text: a", "text: b"]},
                 {"capture": "css: #a", "as": "total", "pattern": "([0-9]+)"}, {"fill": {"label: a": "{secret.card}", "label: b": "{run}"}},
                 {"press": "Enter"}, {"press": {"label: a": "Tab"}}, {"count": "css: li", "min": 0, "max": 0}, {"pause": "1s"}, submits=True)
    raw = there.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert DeclaredStep.model_validate(raw) == there
    assert raw["do"][4] == {"capture": "css: #a", "as": "total", "pattern": "([0-9]+)"}


def test_every_action_can_be_walked() -> None:
    assert set(_ACTIONS) == set(ACTIONS)


def test_names_are_known_before_the_flow_runs() -> None:
    steps = [step({"see": "text: {total}"}, {"capture": "css: #t", "as": "total"}, {"see": "text: {total}"},
                  {"fill": {"label: a": "{secret.pin} {run}"}},
                  {"eval": "() => { return {total} }"}, {"fill": {"label: {where}": "{2} {Not} {}"}})]
    assert unknown_names(steps, ["run"], ["card"]) == [
        'step "s": there is no variable "total"; add it to the probe\'s variables, or capture it before',
        'step "s": there is no secret "pin"; add it to the probe\'s secrets',
        'step "s": there is no variable "where"; add it to the probe\'s variables, or capture it before',
    ]
    assert unknown_names(steps[:1], ["run", "total", "where"], ["pin"]) == []
    assert insert("{run}-{2}", {"run": "a{run}"}) == "a{run}-{2}"


@pytest.mark.parametrize(("address", "wanted", "fits"), [
    ("S/checkout", "/checkout", True), ("S/checkout/", "/checkout", True), ("S/checkout?a=1", "/checkout", True),
    ("S/checkout/pay", "/checkout", False), ("S/checkout/pay", "/checkout/*", True), ("S/", "/", True),
    ("S/?wc-ajax=checkout", "/?wc-ajax=checkout", True), ("S/?wc-ajax=other", "/?wc-ajax=checkout", False),
    ("S/a?b=1", "/a?*", True), ("S/x", "S/x", True), ("https://t.example/x", "S/x", False),
    ("S/a/b/c", "*/b/*", True), ("S/ab", "/ab*b", False), ("S/order/7/done", "/order/*/done", True),
])
def test_addresses(address: str, wanted: str, fits: bool) -> None:
    assert _fits(address.replace("S/", "https://s.example/"), wanted.replace("S/", "https://s.example/")) is fits


def test_an_awkward_address_takes_no_time() -> None:
    assert not _fits("https://s.example/" + "a" * 100_000, "/" + "*a" * 200 + "*b")


# ---- in the browser --------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> AsyncIterator[str]:
    async with shop() as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def on(browser: Browser, url: str) -> AsyncIterator[Stage]:
    async with stage(browser, url) as found:
        await found.page.goto("/")
        yield found


walked = [in_browser, pytest.mark.asyncio(loop_scope="module")]

GOOD: dict[str, list[dict[str, Any]]] = {
    "pages": [{"goto": "/basket"}, {"url": "/basket"}, {"title": "your BASKET"}, {"title": '"Your basket"'}, {"title": "/^Your .asket$/"}],
    "only what can be seen is clicked": [{"click": "css: a[href='/basket']"}, {"url": "/basket"}, {"see": "heading: Your basket"}],
    "several": [{"see": ["heading: Green tea", "text: Sencha"]}, {"see": "button: Add"}, {"see_not": ["text: Sold out", "text: Old"]}],
    "enabled": [{"enabled": "button: Pay"}],
    "count": [{"count": "css: li.product", "min": 2, "max": 2}, {"count": "css: li.product"}, {"count": "css: li.nothing", "max": 0}],
    "capture": [{"capture": "testid: sum", "as": "sum", "pattern": r"([0-9,]+) EUR"},
                {"see": "text: Total: {sum}"}, {"order": "css: #number", "pattern": "KL-[0-9]+"}],
    "optional": [{"click": "button: Accept cookies", "optional": True, "within": "100ms"}],
    "forms": [{"fill": {"css: main >> label: Card number": "{secret.card}", "placeholder: Voucher": "TEA-{run}"}}, {"check": "checkbox: I agree"},
              {"select": {"label: Country": "Germany"}}, {"eval": "() => [terms.checked, country.value, card.value].join()", "as": "is"},
              {"uncheck": ["checkbox: I agree"]}, {"eval": "vars => terms.checked + vars.is", "as": "then"}],
    "keys": [{"type": {"label: Slow": "abc"}}, {"see": "css: [title=kkk]"}, {"press": "Escape"}, {"see": "css: [data-escaped]"},
             {"press": {"label: Slow": "x"}}, {"see": "css: [title=kkkkk]"}],
    "answers": [{"click_and_wait": "css: #xhr", "path": "/ajax/order"}, {"click_and_wait": "css: #xhr", "path": "/ajax/order?x=*", "status": 201},
                {"click_and_wait": "css: #bad", "path": "*/broken", "status": 500}],
    "frames": [{"fill": {"frame: Secure card >> label: Card number": "{secret.card}"}}, {"see": "frame: second >> button: Inner"}],
    "dialogs": [{"dialog": "accept"}, {"click": "button: Ask"}, {"title": '"sure"'},
                {"dialog": "dismiss"}, {"click": "button: Ask"}, {"title": '"not sure"'}],
    "scrolling": [{"scroll": "text: The end"}, {"eval": "() => String(scrollY > 1000)", "as": "far"},
                  {"scroll": "top"}, {"scroll": "bottom"}, {"pause": "1ms"}],
}


class TestWalk:
    pytestmark = walked

    @pytest.mark.parametrize("name", GOOD)
    async def test_what_is_there_passes(self, on: Stage, name: str) -> None:
        await on.walk(*GOOD[name], name=name)
        assert on.told == [(name, "begun", ""), (name, "ok", "")]

    async def test_values_arrive(self, on: Stage) -> None:
        await on.walk(*GOOD["forms"], *GOOD["capture"])
        assert on.flow.vars | {"run": ""} == {"run": "", "is": f"true,de,{SECRET}", "then": f"falsetrue,de,{SECRET}", "sum": "23,40"}
        assert on.flow.orders == ["KL-7"]
        await on.walk(*GOOD["frames"], *GOOD["scrolling"], name="more")
        assert await on.page.frame_locator("[title^=Secure]").locator("#inside").input_value() == SECRET
        assert on.flow.vars["far"] == "true"

    @pytest.mark.parametrize(("do", "words"), [
        ({"see": "heading: Black tea"}, '"heading: Black tea" was not seen within 0.3 s; the page was /'),
        ({"see": ["heading: Green tea", "text: Old"]}, '"text: Old" was not seen within 0.3 s; the page was /'),
        ({"see_not": "text: Sencha"}, '"text: Sencha" was to be seen for 0.3 s and should not be; the page was /'),
        ({"enabled": "frame: second >> css: i"}, '"frame: second >> css: i" could not be used within 0.3 s; the page was /'),
        ({"count": "css: li.product", "min": 3}, '"css: li.product" was there 2 times, not at least 3; the page was /'),
        ({"count": "css: li.product", "max": 1}, '"css: li.product" was there 2 times, not at most 1; the page was /'),
        ({"count": "css: li.product", "min": 3, "max": 5}, '"css: li.product" was there 2 times, not 3 to 5; the page was /'),
        ({"url": "/order/*"}, 'the address did not become "/order/*" within 0.3 s; the page was /'),
        ({"title": "Thank you"}, 'the title did not become Thank you within 0.3 s: it is "Tea & more"; the page was /'),
        ({"capture": "css: #none", "as": "a"}, '"css: #none" was not seen within 0.3 s; the page was /'),
        ({"capture": "testid: sum", "as": "a", "pattern": "USD"}, '"testid: sum" said nothing that fits the pattern within 2 s; the page was /'),
        ({"order": "css: #card"}, '"css: #card" stayed empty within 2 s; the page was /'),
        ({"click_and_wait": "css: #xhr", "path": "/none"},
         'no request to "/none" was answered within 2 s after the click on "css: #xhr"; the page was /'),
        ({"click_and_wait": "css: #bad", "path": "/ajax/*"}, '"/ajax/*" was answered with status 500 after the click on "css: #bad"'),
        ({"click_and_wait": "css: #xhr", "path": "/ajax/*", "status": 200},
         '"/ajax/*" was answered with status 201, not 200 after the click on "css: #xhr"'),
        ({"goto": "/missing"}, '"/missing" was answered with status 404'),
    ], ids=str)
    async def test_what_is_not_there_fails_in_a_sentence(
            self, browser: Browser, url: str, monkeypatch: pytest.MonkeyPatch, do: dict[str, Any], words: str) -> None:
        monkeypatch.setattr("probes.checkout.walk._GRACE", 20.0)
        async with stage(browser, url, within=15.0 if "with status" in words else 2.0 if "within 2 s" in words else 0.3) as on:
            await on.page.goto("/")
            with pytest.raises(AssertionError) as caught:
                await on.walk(do)
            assert str(caught.value) == words
            assert on.told[-1] == ("step", "failed", "AssertionError")

    async def test_within_is_longer_or_shorter_than_usual(self, browser: Browser, url: str) -> None:
        async with stage(browser, url, within=0.05) as on:
            await on.page.goto("/")
            await on.walk({"enabled": "button: Pay", "within": "20s"})
            with pytest.raises(AssertionError, match=r"within 0.1 s"):
                await on.walk({"see": "text: nothing", "within": "100ms"}, name="two")

    @pytest.mark.parametrize("do", [{"click": "button: None"}, {"check": "checkbox: None"}, {"press": {"label: None": "x"}},
                                    {"select": {"label: None": "x"}},
                                    {"click_and_wait": "button: None", "path": "/x"}, {"scroll": "css: #none"}], ids=str)
    async def test_what_cannot_be_done_is_playwrights_error(self, browser: Browser, url: str, do: dict[str, Any]) -> None:
        async with stage(browser, url, within=0.1) as on:
            await on.page.goto("/")
            with pytest.raises(TooLate, match="Timeout 100ms"):
                await on.walk(do)

    @pytest.mark.parametrize("do", [{"fill": {"label: None": "x{secret.card}"}}, {"type": {"css: #late": "{secret.card}"}},
                                    {"fill": {"css: li": "{secret.card}"}},
                                    {"fill": {"css: #terms": "{secret.card}"}}, {"type": {"label: None": "{secret.card}"}}], ids=str)
    async def test_what_was_to_be_typed_is_in_no_error(self, browser: Browser, url: str, do: dict[str, Any]) -> None:
        async with stage(browser, url, within=0.1) as on:
            await on.page.goto("/")
            with pytest.raises(Error, match="could not be filled in") as caught:
                await on.walk(do, {"fill": {"css: #missing": "{secret.card}"}})
            error: BaseException | None = caught.value
            while error:
                assert SECRET not in f"{error} {error!r} {vars(error)}"
                error = error.__cause__ or error.__context__

    async def test_a_name_that_is_none_is_the_flows_fault(self, on: Stage) -> None:
        for do, words in (({"see": "text: {x}"}, 'no variable "x"; there are: run'), ({"fill": {"css: #card": "{secret.pin}"}}, 'no secret "pin"'),
                          ({"fill": {"css: #card": "{x}{secret.card}"}}, 'no variable "x"')):
            with pytest.raises(FlowError, match=re.escape(words)):
                await on.walk(do, name=words)

    async def test_submit_asks_first_and_clicks_once(self, on: Stage) -> None:
        await on.walk({"submit": "css: #xhr", "path": "/ajax/order", "status": 201})
        assert (on.asked, on.flow.submitted) == (1, True)
        with pytest.raises(Refused):
            await on.walk({"submit": "css: #xhr"}, name="again")

    async def test_a_step_that_submits_is_asked_for_before_it_begins(self, browser: Browser, url: str) -> None:
        async with stage(browser, url, refused="not now") as on:
            with pytest.raises(Refused, match="not now"):
                await on.walk({"goto": "/"}, submits=True)
            assert (on.asked, on.told, on.page.url) == (1, [], "about:blank")

    async def test_it_stops_where_it_is_to(self, browser: Browser, url: str) -> None:
        async with stage(browser, url, stop_before="pay") as on:
            await on.walk({"goto": "/"}, name="home")
            with pytest.raises(Stopped):
                await on.walk({"click": "css: #xhr"}, name="pay")
            assert on.told == [("home", "begun", ""), ("home", "ok", "")]
            with pytest.raises(Refused):
                await on.walk({"submit": "css: #xhr"}, name="other")

    async def test_a_page_that_went_away_is_no_missing_text(self, on: Stage) -> None:
        await on.page.close()
        with pytest.raises((Error, AssertionError), match=re.compile("closed", re.IGNORECASE)):
            await on.walk({"see": "text: x"})

    @pytest.mark.parametrize("stop_before", ["payment", ""])
    async def test_the_shipped_flows_walk_the_same_way(self, browser: Browser, tmp_path: Path, stop_before: str) -> None:
        space: dict[str, Any] = {}
        exec((ROOT / "flows/checkout.py").read_text(), space)
        probe = tomllib.loads((ROOT / "flows/checkout.toml").read_text())["probe"][0]
        steps = [DeclaredStep.model_validate(one) for one in probe["step"]]
        async with kettle(tmp_path) as url:
            walks = []
            for run in (space["checkout"], lambda flow: walk(flow, steps)):
                async with stage(browser, url, stop_before=stop_before) as on:
                    on.flow.vars["email"], on.flow._secrets = "till@shop.example", probe["secrets"]
                    with contextlib.suppress(Stopped):
                        await run(on.flow)
                    walks.append(([name for name, state, _ in on.told if state == "ok"], len(on.flow.orders)))
        wanted = ["home", "category", "product", "basket", "checkout", *([] if stop_before else ["payment"])]
        assert walks == [(wanted, 0 if stop_before else 1)] * 2
