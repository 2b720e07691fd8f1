"""What is kept of a failed run: it shows what happened, holds nothing secret, and is had in time whatever the page does."""

import asyncio
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bad_shop import CHROMIUM, SHOP, BadShop
from playwright.async_api import Browser, Error, Page
from processes import Stopwatch

from probes.checkout import evidence, traces
from probes.checkout.evidence import collect, page_text
from probes.checkout.record import Recorder

browsing = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRETS = ("sEcret-phrase-77", "Zq9")
CARD = "4111 1111 1111 1111"


@asynccontextmanager
async def opened(browser: Browser, url: str) -> AsyncIterator[tuple[Page, Recorder]]:
    context, recorder = await browser.new_context(), Recorder(SHOP, secrets=SECRETS)
    await recorder.attach(context)
    page = await context.new_page()
    recorder.step("pay")
    await page.goto(url)
    yield page, recorder
    await recorder.close()
    await context.close()


async def kept(page: Page, recorder: Recorder, words: str = "no button") -> dict[str, bytes]:
    found = await collect(page, recorder, step="pay", words=words, secrets=SECRETS, locator=f"css=#pay-{SECRETS[0]}")
    assert all({"screenshot": "png", "page": "txt", "details": "json"}[kind] == ext for kind, ext, _ in found)
    return {kind: data for kind, _, data in found}


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a picture takes longer than the product waits for it."""
    for name in ("_ALL", "_SHOT", "_HTML", "_CLEANING"):
        monkeypatch.setattr(evidence, name, 20.0)


@browsing
@pytest.mark.usefixtures("unhurried")
async def test_what_is_kept_shows_the_page_and_nothing_that_was_typed(browser: Browser, shop: BadShop) -> None:
    async with opened(browser, shop.url("/form?token=q-secret-1")) as (page, recorder):
        await page.fill("[name=card]", SECRETS[0])
        await page.evaluate("""secret => { console.error('refused: ' + secret + ' 4111111111111111');
            fetch('/nowhere?key=' + secret);
            document.forms[0].insertAdjacentHTML('beforeend', `<p title="${secret}">${secret} ${encodeURIComponent(secret)}</p>`) }""", SECRETS[0])
        async with asyncio.timeout(20):
            while recorder.network_tail()[-1]["end"] != "404, net::ERR_ABORTED":  # noqa: ASYNC110 - the browser tells in its own time
                await asyncio.sleep(0.02)
        found = await kept(page, recorder, f"waited for {SECRETS[0]}")
    text, details = found["page"].decode(), json.loads(found["details"])
    assert found["screenshot"].startswith(b"\x89PNG")
    assert "Thank you" in text
    assert "<input" in text
    for hidden in (SECRETS[0], CARD, "4111111111111111", "tok3n-in-form", "Erika", "erika@mail.example", "met4-token", "k3y-in-data", "in-a-script",
                   "q-secret-1"):
        assert hidden not in text.replace("[card …1111]", ""), hidden
        assert hidden not in found["details"].decode().replace("[card …1111]", ""), hidden
    assert details["step"] == "pay"
    assert details["error"] == "waited for [hidden]"
    assert [(one["method"], one["end"]) for one in details["requests"]] == [("GET", "200"), ("GET", "404, net::ERR_ABORTED")]
    assert details["requests"][1]["url"].endswith("/nowhere?key")
    assert details["console"][0]["text"].startswith("refused: [hidden]")
    assert any("answered 404" in one for one in details["findings"])


@browsing
@pytest.mark.usefixtures("unhurried")
async def test_no_pixel_of_the_picture_depends_on_what_was_typed(browser: Browser, shop: BadShop) -> None:
    """Two runs with other values give the same picture; without the covers they would not."""
    pictures, bare = [], []
    for card, mail, secret in ((CARD, "erika@mail.example", SECRETS[0]), ("5500 0000 0000 0004", "ronja@mail.example", SECRETS[0].upper())):
        async with opened(browser, shop.url("/form")) as (page, recorder):
            await page.fill("[name=card]", card)
            await page.fill("textarea", mail)
            await page.evaluate("""([mail, card, secret]) => { document.querySelector('p').textContent = mail;
                document.body.insertAdjacentHTML('beforeend', `<div style="width:300px">${card}</div><div style="width:300px">${secret}</div>
                <iframe srcdoc="${card}"></iframe><div data-private style="width:300px">${mail.slice(0, 5)}</div>`) }""", [mail, card, secret])
            await asyncio.sleep(0.1)
            bare.append(await page.screenshot())
            pictures.append((await kept(page, recorder))["screenshot"])
    assert pictures[0] == pictures[1]
    assert bare[0] != bare[1]


@browsing
@pytest.mark.parametrize("path", ["/loop", "/huge", "/no-map", "/overridden"])
async def test_a_hostile_page_cannot_hold_it_up(browser: Browser, shop: BadShop, path: str) -> None:
    async with opened(browser, shop.url(path)) as (page, recorder):
        await asyncio.sleep(0.15)
        with Stopwatch() as watch:
            found = await kept(page, recorder)
            assert watch() < 3.5
    assert "details" in found
    assert len(found.get("page", b"")) <= 600_000


@browsing
async def test_a_page_that_is_gone_still_has_details(browser: Browser, shop: BadShop) -> None:
    async with opened(browser, shop.url("/")) as (page, recorder):
        await page.close()
        with Stopwatch() as watch:
            assert list(await kept(page, recorder)) == ["details"]
            assert watch() < 3.5


async def test_texts_of_pages_are_cleaned_in_linear_time() -> None:
    for text in ("<script " * 200_000, ' value="' * 190_000, "<!--" * 300_000, "<meta csrf" * 100_000, "&" * 1_500_000, "x" * 1_500_000,
                 "token=" * 200_000, "1 " * 700_000, "<svg>" * 200_000, " " * 1_500_000, "@a." * 400_000):
        begun = time.thread_time()
        assert len(page_text(text, SECRETS, within=0.3)) <= 600_000
        assert time.thread_time() - begun < 2.0, text[:10]


async def test_no_secret_is_cut_in_two() -> None:
    """Wherever it stands, and however the text is cut."""
    for before in range(8150, 8200, 3):
        assert SECRETS[0][:10] not in page_text("<p>" + "a" * before + f" {SECRETS[0]} " + "b" * 9000, SECRETS).decode()


async def test_scripts_and_what_is_not_closed_are_left_out() -> None:
    assert page_text('<p>a</p><script>s</script><style>t</style>b<!-- c --><textarea>d</textarea><input value="e">f<script>g') == b"<p>a</p>b<input>f"


# traces

@browsing
async def test_a_trace_has_nothing_that_was_typed_read_or_sent(browser: Browser, shop: BadShop, tmp_path: Path) -> None:
    context = await browser.new_context(extra_http_headers={"X-Key": "h3ader-s"}, http_credentials={"username": "u", "password": "b4sic-s"})
    assert await traces.start(context)
    page = await context.new_page()
    await page.goto(shop.url("/form?token=q-secret-1"))
    card = page.locator("[name=card]")
    await card.fill("f1lled-value")
    await card.press_sequentially("4242424242424242")
    for key in "987":
        await page.keyboard.press(key)
    await page.keyboard.type("k3yed")
    await page.evaluate("x => { console.log('said ' + x); return 'r3turned' }", SECRETS[0])
    assert "f1lled-value" in await card.input_value()
    with pytest.raises(Error):
        await page.get_by_text(SECRETS[0]).click(timeout=100)
    (kind, ext, data), = await traces.stop(context, SECRETS, within=20)
    await context.close()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        text = "\n".join(archive.read(name).decode() for name in archive.namelist())
    assert (kind, ext) == ("trace", "zip")
    for hidden in (*SECRETS, "f1lled", "4242424242", "k3yed", "r3turned", "h3ader-s", "b4sic-s", "q-secret-1", CARD):
        assert hidden not in text, hidden
    lines = [json.loads(line) for line in text.splitlines() if line]
    assert [one["method"] for one in lines if one["type"] == "before"] == [
        "newPage", "goto", "fill", "type", *["keyboardPress"] * 3, "keyboardType", "evaluateExpression", "inputValue", "click"]
    assert any("[name=card]" in json.dumps(one) for one in lines)
    assert not any({"value", "text", "key", "expression", "arg"} & one.get("params", {}).keys() for one in lines)
    assert lines[-1]["error"]["name"] == "TimeoutError"


async def test_what_is_no_trace_gives_none(tmp_path: Path) -> None:
    raw = tmp_path / "raw.zip"
    for data in (b"", b"PK nonsense"):
        raw.write_bytes(data)
        assert traces.rewritten(raw) == b""
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("trace.trace", '{"type": "frame-snapshot", "html": "x"}\n[1]\n{"type": 7}\nnonsense\n' + "[" * 50_000)
    assert traces.rewritten(raw) == b""
    assert traces.rewritten(tmp_path / "missing.zip") == b""


async def test_a_trace_that_has_a_secret_nevertheless_is_not_given_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(raw := tmp_path / "raw.zip", "w") as archive:
        archive.writestr("trace.trace", json.dumps({"type": "before", "callId": "1", "startTime": 1, "params": {}, "class": {"sEcret-phrase-77": 1}}))
    assert traces.rewritten(raw, SECRETS) == b""


@browsing
async def test_a_trace_of_a_context_that_is_gone_is_none(browser: Browser) -> None:
    context = await browser.new_context()
    await context.close()
    assert not await traces.start(context)
    assert await traces.stop(context) == []
