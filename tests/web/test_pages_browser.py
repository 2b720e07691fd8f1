"""The operator pages in a real browser: on a phone and on a desk, by keyboard, in the dark, on paper. Debian's Chromium, without scripts of ours."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from exhibits import WATCHED, keep, log, many, outage, own_fault, signal, slower, target, update
from playwright.async_api import Browser, Page, async_playwright
from shopfront import TOKENS, Front, front

from monitor.web.settings import WebSettings

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
PHONE, SMALL, DESK = (360, 740), (320, 568), (1280, 800)
LONG = "x" * 200

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")


@dataclass
class Screen:
    """One page in the browser, and all that the browser complained of."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def fits(self) -> bool:
        """Nothing has to be scrolled sideways, and nothing sticks out."""
        return bool(await self.page.evaluate(
            "document.documentElement.scrollWidth <= innerWidth && "
            "[...document.querySelectorAll('main *')].every(e => e.getBoundingClientRect().right <= innerWidth + 0.5)"))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []         # Chromium's sandbox cannot be had as root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


async def screen(browser: Browser, shop: Front, size: tuple[int, int] = PHONE, **how: Any) -> Screen:
    context = await browser.new_context(viewport={"width": size[0], "height": size[1]}, **how)
    shown = Screen(await context.new_page(), shop.url)
    shown.page.on("console", lambda message: shown.complaints.append(message.text))
    shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    shown.page.on("requestfailed", lambda request: shown.complaints.append(f"not loaded: {request.url}"))
    return shown


async def busy(shop: Front) -> None:
    """Everything at once, with words that have no place to break."""
    now = shop.clock.now()
    shop.targets = [target("home", "down", critical=True, since=now - 840, outcome="failed", reason="status", evidence=f"HTTP 502 {LONG}"),
                    target("search", "failing", device="phone"), *[target(f"page-{number}") for number in range(30)]]
    await keep(shop, update(now, version=f"8.4.1-{LONG[:100]}", link=f"https://git.example/{LONG}", signals=[
        slower(), slower("pay", note=LONG, before_text="3 a minute", after_text=f"41 a minute: “{LONG}”"), signal(), *many(60)]),
        ("start", "ci", LONG), ("phase", "ci", "all"))
    for number in range(30):
        await log(shop, now - 60 + number, f"error:{LONG[:80]} {chr(97 + number)} [woocommerce]", 12_345, LONG)
    await outage(shop, evidence=f"HTTP 502 {LONG}")
    await own_fault(shop)


@pytest.mark.parametrize("size", [PHONE, SMALL, DESK], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_both_pages_fit_the_screen_and_tell_the_state_without_scrolling(browser: Browser, shop: Front, size: tuple[int, int]) -> None:
    await busy(shop)
    shown = await screen(browser, shop, size)
    for path, first in (("/", "h1"), ("/updates/newest", ".lead")):
        await shown.open(path)
        assert await shown.fits(), path
        box = await shown.page.locator(first).bounding_box()
        assert box
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= size[1], path
        for summary in await shown.page.locator("summary").all():
            await summary.click()
        assert await shown.fits(), f"{path} unfolded"
    assert shown.complaints == []


async def test_the_page_is_styled_and_in_the_dark_it_is_dark(browser: Browser, shop: Front) -> None:
    await busy(shop)
    for scheme in ("light", "dark"):
        shown = await screen(browser, shop, color_scheme=scheme)
        await shown.open("/")
        look = await shown.page.locator("h1").evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).borderLeftWidth]")
        assert look[1] != "0px", "the policy lets our own style in"
        assert look[0] == {"light": "rgb(179, 38, 30)", "dark": "rgb(255, 138, 128)"}[scheme]
        assert shown.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_stands_out_from_its_background(browser: Browser, shop: Front, scheme: Any) -> None:
    """WCAG AA: 4.5 to 1, blending translucent backgrounds with what is below them."""
    await busy(shop)
    shown = await screen(browser, shop, color_scheme=scheme)
    for path in ("/", "/updates/newest"):
        await shown.open(path)
        weak = await shown.page.evaluate("""dark => {
            const rgb = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1] };
            const light = c => { const f = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                                 return .2126 * f[0] + .7152 * f[1] + .0722 * f[2] };
            const below = e => { const b = e ? rgb(getComputedStyle(e).backgroundColor) : null;
                                 if (!e) return dark ? [18, 18, 18] : [255, 255, 255];
                                 const under = b[3] === 1 ? b : below(e.parentElement);
                                 return under.slice(0, 3).map((v, i) => v * (1 - b[3]) + b[i] * b[3]) };
            return [...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
                    && e.checkVisibility()).map(e => { const a = light(rgb(getComputedStyle(e).color)), b = light(below(e));
                    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className, e.textContent.slice(0, 40)] }).filter(x => x[0] < 4.5) }""",
            scheme == "dark")
        assert weak == []


async def test_what_is_folded_opens_by_keyboard(browser: Browser, shop: Front) -> None:
    await busy(shop)
    shown = await screen(browser, shop)
    for path, inside in (("/", "details li"), ("/updates/newest", "details article")):
        await shown.open(path)
        first = shown.page.locator(inside).first
        assert not await first.is_visible()
        for _ in range(40):
            await shown.page.keyboard.press("Tab")
            if await shown.page.evaluate("document.activeElement.tagName") == "SUMMARY":
                break
        await shown.page.keyboard.press("Enter")
        assert await first.is_visible(), path
        assert await shown.page.locator("details[open]").count() == 1


async def test_a_screen_reader_finds_its_way(browser: Browser, shop: Front) -> None:
    """One first heading, no level left out, every section and list named and told as what it is; pictures are silent."""
    await busy(shop)
    shown = await screen(browser, shop)
    for path in ("/", "/updates/newest"):
        await shown.open(path)
        levels = await shown.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels)), levels
        for role in ("banner", "main", "contentinfo", "navigation"):
            assert await shown.page.get_by_role(role).count() == 1, role
        sections = await shown.page.locator("section").evaluate_all("all => all.map(s => document.getElementById(s.getAttribute('aria-labelledby')))")
        assert None not in sections
        ids = await shown.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(set(ids)) == len(ids)
        assert await shown.page.locator("svg:not([aria-hidden])").count() == 0
        assert await shown.page.evaluate("document.documentElement.lang") == "en"


async def test_it_loads_itself_anew_while_an_update_is_watched_until_it_is_told_not_to(browser: Browser, shop: Front) -> None:
    shop.targets = [target("home")]
    await keep(shop, update(shop.clock.now(), **WATCHED, signals=[signal()], sentence="No harm seen so far: 2 hours."))
    shown = await screen(browser, shop)
    await shown.open("/")
    await shown.page.get_by_role("link", name="stop").click()
    assert shown.page.url.endswith("/?refresh=off")
    await shown.page.get_by_role("link", name="go on").click()
    assert shown.page.url.endswith("/?")
    await shown.page.get_by_role("link", name="8.4.1").click()
    assert await shown.page.locator("h1").inner_text() == "Update 8.4.1"
    await shown.page.get_by_role("link", name="report").click()
    assert "What was compared" in await shown.page.locator("body").inner_text()
    assert shown.complaints == []


async def test_without_scripts_it_is_the_same(browser: Browser, shop: Front) -> None:
    await busy(shop)
    texts = []
    for on in (True, False):
        shown = await screen(browser, shop, java_script_enabled=on)
        await shown.open("/updates/newest")
        texts.append(await shown.page.locator("main").inner_text())
    assert texts[0] == texts[1]
    assert "This update made the shop worse" in texts[0]


async def test_on_paper_nothing_is_folded_or_cut(browser: Browser, shop: Front) -> None:
    await busy(shop)
    shown = await screen(browser, shop, (700, 900))
    await shown.page.emulate_media(media="print")
    await shown.open("/updates/newest")
    assert await shown.page.locator("details article").first.is_visible()
    assert not await shown.page.get_by_role("navigation").is_visible()
    assert await shown.fits()


async def test_what_foreign_text_wants_does_not_happen(browser: Browser, shop: Front) -> None:
    texts = ["<script>document.title='pwned'</script>", '"><img src=x onerror="document.title=\'pwned\'">',
             "</style><svg onload=document.title='pwned'>", "<meta http-equiv=refresh content='0;url=//evil.example'>",
             "<style>*{display:none}</style>"]
    everything = "".join(texts)
    signals = [signal(text, note=everything, guilty=True, after_text=text) for text in texts]
    await keep(shop, update(shop.clock.now(), version=everything, by=everything, link="javascript:document.title='pwned'", sentence=everything,
                            signals=signals), ("start", everything, everything))
    for number, text in enumerate((*texts, everything)):
        await log(shop, shop.clock.now() - number, f"error:{text} [woocommerce]", example=text, probe=text)
    shop.targets = [target(everything, "down", evidence=everything)]
    await outage(shop, everything, evidence=everything)
    shown = await screen(browser, shop)
    for path in ("/", "/updates/newest"):
        await shown.open(path)
        assert not (await shown.page.title()).startswith("pwned")
        assert await shown.page.locator("img, script, meta[http-equiv], a[href^=javascript]").count() == 0
        assert await shown.page.locator("h1").is_visible()
        assert await shown.fits()
    assert shown.complaints == []


async def test_beyond_loopback_the_browser_asks_once_and_all_links_of_the_pages_work(browser: Browser, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    web = WebSettings.model_validate({"listen": "127.0.0.1:0", "tls": {"cert_file": "both.pem", "key_file": "both.pem"}}, context={"base": tmp_path})
    async with front(tmp_path, web, ssl=False) as shop:
        await busy(shop)
        shown = await screen(browser, shop, ignore_https_errors=True)
        await shown.open("/updates/newest")
        assert "needs a token" in await shown.page.locator("h1").inner_text()
        how = {"username": "ann", "password": TOKENS["reader"]}
        shown = await screen(browser, shop, ignore_https_errors=True, http_credentials=how)
        await shown.open("/updates/newest")
        for link, found in (("report", "What was compared"), ("till", "Open incidents"), ("all facts (JSON)", '"kind": "outage"'),
                            ("all of them (JSON)", '"level": "error"')):
            await shown.page.get_by_role("link", name=link, exact=True).first.click()
            assert found in await shown.page.locator("body").inner_text(), link
            if link == "report":
                await shown.page.go_back()
            if link.startswith("all facts"):
                await shown.open("/updates/newest")
