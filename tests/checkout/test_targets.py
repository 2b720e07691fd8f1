"""Targets: one string for what a step points at, and what Playwright finds with it."""

import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import get_args

import pytest
import pytest_asyncio
from flow_stage import CHROMIUM, PAGE, chromium
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import Page

from probes.checkout.targets import KINDS, ROLES, Part, check_pattern, locate, parse

PARTS = {
    "button: Add to basket": [Part("button", "Add to basket")],
    "Button:Add": [Part("button", "Add")],
    'heading: "Your basket"': [Part("heading", "Your basket", "exact")],
    r"link: /basket \(\d+\)/i": [Part("link", r"basket \(\d+\)", "pattern_i")],
    "text: /a\\/b/ #2": [Part("text", "a\\/b", "pattern", 2)],
    "label: E-mail #2": [Part("label", "E-mail", nth=2)],
    'text: "Order #2"': [Part("text", "Order #2", "exact")],
    'text: "a >> \\"b\\""': [Part("text", 'a >> "b"', "exact")],
    "text: /month": [Part("text", "/month")],
    "main: >> button: #3": [Part("main", ""), Part("button", "", nth=3)],
    "css: li:has(a[title='>>']) > b #2 >> text: new": [Part("css", "li:has(a[title='>>']) > b", nth=2), Part("text", "new")],
    "css: #checkout": [Part("css", "#checkout")],
    "frame: Card >> label: Card number": [Part("frame", "Card"), Part("label", "Card number")],
    'frame: css: iframe[src*="psp"] #2 >> css: input': [Part("frame", 'css: iframe[src*="psp"]', nth=2), Part("css", "input")],
    "text: Total: {sum}": [Part("text", "Total: {sum}")],
}

REFUSED = {
    "Add to basket": "say first what it is",
    "#add": 'did you mean "css: #add"',
    "buton: Add": 'did you mean "button:"',
    "lable: E-mail": 'did you mean "label:"',
    "": "say first what it is",
    "label:": "needs something behind it",
    "text: x >>": "ends with >>",
    "frame: Card": "say what is meant inside of it",
    "text: x #0": "the first one is #1",
    "text: /(a+)+b/": "can take for ever",
    "text: /(?:x[)]{2,}y)*/": "can take for ever",
    "text: /(/": "cannot be used",
    r"text: /(a)\1/": "cannot be used",
    "text: /(?i)x/": "browsers do not know",
    "text: " + "x" * 500: "at most 500",
}


@pytest.mark.parametrize("text", PARTS)
def test_a_target_is_read(text: str) -> None:
    assert list(parse(text).parts) == PARTS[text]


@pytest.mark.parametrize("text", REFUSED)
def test_a_target_that_is_none_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(REFUSED[text])):
        parse(text)


def test_all_roles_of_playwright_and_no_other() -> None:
    known = set(get_args(Page.get_by_role.__annotations__["role"]))
    assert known == ROLES
    assert not ROLES & {*KINDS}


def test_variables_go_into_the_texts_only() -> None:
    target = parse("css: li >> link: {name} >> text: /Order {name}/").filled(lambda text: text.replace("{name}", "a >> b.c"))
    assert [part.text for part in target.parts] == ["li", "a >> b.c", r"Order a\ >>\ b\.c"]


@given(st.text(alphabet='ab:>#"/\\ 1()+[]\'', max_size=60))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse(f"text: {text}")


@pytest.mark.parametrize("piece", ['"', "'", "\\", "/", ">", "(", " #1"])
def test_awkward_targets_take_no_time(piece: str) -> None:
    begun = time.thread_time()
    for kind in ("css", "text", "frame"):
        for text in (piece * 480, f"{piece}a" * 200):
            with contextlib.suppress(ValueError):
                parse(f"{kind}: {text}"[:500])
    assert time.thread_time() - begun < 0.5


@pytest.mark.parametrize("pattern", [r"a+b+", r"(ab)+", r"(\(+)?", r"[(+]+", r"(?:a{2})+", "x(a|b)*y"])
def test_harmless_patterns_are_taken(pattern: str) -> None:
    check_pattern(pattern)


# ---- in the browser --------------------------------------------------------------------------------------------------

HITS = {                   # target -> the id, tag or text of what it finds
    "heading: green": "Green tea", 'heading: "Green tea"': "Green tea", "heading: /^Green/": "Green tea", "button: Add #2": "Add",
    "css: li.product #2 >> button: Add": "Add", "label: Card number": "card", "placeholder: voucher": "A voucher", "title: A voucher": "A voucher",
    "alt: cup": "IMG", "testid: sum": "Total: 23,40 EUR", "text: /total/i": "Total: 23,40 EUR", "checkbox: I agree": "terms", "css: #terms": "terms",
    "frame: card FRAME >> label: Card number": "inside", 'frame: "Secure card frame" >> css: input': "inside", "frame: second >> button:": "Inner",
    "frame: css: iframe[name=second] >> button: Inner": "Inner", "frame: css: iframe #2 >> button: Inner": "Inner",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    async with chromium() as browser:
        page = await browser.new_page()
        await page.set_content(PAGE)
        yield page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("target", HITS)
async def test_it_finds_what_it_says(page: Page, target: str) -> None:
    found = await locate(page, target).evaluate("e => e.id || e.title || e.innerText || e.tagName", timeout=20000)
    assert found == HITS[target]
