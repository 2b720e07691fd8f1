"""GET /artifacts/NAME over a real listener: who is shown what, that none of it can act, and the links that lead there."""

import asyncio
import os
import shutil
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from exhibits import keep, outage, target, update
from listening import serve
from playwright.async_api import Error, async_playwright
from shopfront import Front

from monitor import chores, report
from monitor.store import records
from monitor.web.artifacts import CHUNK, ArtifactPages
from monitor.web.auth import Guard, Tokens
from monitor.web.settings import TokenSettings, WebSettings
from probes.artifacts import Artifacts

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
READER = "read-0123456789-0123456789"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
HOSTILE = b"<!doctype html><script>document.title='pwned'</script><svg onload=alert(1)>"
ONE, TWO = f"{'1a' * 16}.png", f"{'2b' * 16}.txt"
EVIDENCE = f'step "pay": no <button> [screenshot artifacts/{ONE}, page artifacts/{TWO}]'


def picture() -> bytes:
    """A red square of 8 by 8."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + b"\xff\0\0" * 8 for _ in range(8))
    return PNG_MAGIC + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@asynccontextmanager
async def shown(folder: Path, *, open_reads: bool = True) -> AsyncIterator[tuple[Artifacts, aiohttp.ClientSession, str]]:
    artifacts = Artifacts(folder / "artifacts", 10_000_000)
    tokens = Tokens([TokenSettings.model_validate({"name": "r", "value": READER, "scopes": ["read"]})], "local-0123456789")
    guard = Guard(tokens, open_reads=open_reads)
    async with (
        serve(WebSettings(listen="127.0.0.1:0"), ArtifactPages(lambda: artifacts, guard).routes()) as port,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield artifacts, session, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("ext", "data", "kind", "how"), [
    ("png", picture(), "image/png", "inline"), ("txt", HOSTILE, "text/plain; charset=utf-8", "attachment"),
    ("json", b'{"a": "<script>"}', "text/plain; charset=utf-8", "attachment"), ("zip", b"PK\x03\x04", "application/zip", "attachment"),
    ("txt", b"", "text/plain; charset=utf-8", "attachment"), ("txt", os.urandom(3 * CHUNK + 7), "text/plain; charset=utf-8", "attachment")])
async def test_a_picture_is_shown_and_the_rest_is_saved(tmp_path: Path, ext: str, data: bytes, kind: str, how: str) -> None:
    async with shown(tmp_path) as (artifacts, session, url):
        name = artifacts.put(data, ext)
        for method in ("GET", "HEAD"):
            async with session.request(method, f"{url}/artifacts/{name}") as answer:
                assert (answer.status, await answer.read()) == (200, data if method == "GET" else b"")
                assert (answer.headers["Content-Type"], answer.headers["Content-Length"]) == (kind, str(len(data)))
                assert answer.headers["Content-Disposition"] == (how if how == "inline" else f'attachment; filename="{name}"')
                policy = answer.headers["Content-Security-Policy"].split("; ")
                assert {"default-src 'none'", "sandbox", "frame-ancestors 'none'"} <= set(policy)
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert answer.headers["Cache-Control"] == "no-store"


async def test_evidence_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    async with shown(tmp_path) as (artifacts, session, url):
        name = artifacts.put(picture(), "png")
        artifacts.sweep(2e9 + 1e9, 1.0)
        async with session.get(f"{url}/artifacts/{name}", headers={"Accept": "text/html,*/*"}) as answer:
            assert (answer.status, answer.content_type) == (404, "text/html")
            assert "There is no such evidence: it is kept for a while only" in await answer.text()
        async with session.get(f"{url}/artifacts/{name}") as answer:
            assert (answer.status, (await answer.json(content_type="application/problem+json"))["code"]) == (404, "not_found")


PATHS = (
    "/artifacts/", "/artifacts", "/artifacts/../token", "/artifacts/..%2ftoken", "/artifacts/%2e%2e/token", "/artifacts/%2e%2e%2ftoken",
    "/artifacts/token",
    "/artifacts//etc/passwd", "/artifacts/%2fetc%2fpasswd", f"/artifacts/{'a' * 32}.png%00", f"/artifacts/{'a' * 32}.png/../../token",
    f"/artifacts/{'a' * 32}.html", f"/artifacts/{'a' * 32}.svg", f"/artifacts/.{'a' * 32}.png", f"/artifacts/{'a' * 32}.png%0d%0aX: y",
    "/artifacts/..\\token", "/artifacts/" + "x" * 7000, f"/artifacts/{'b' * 32}.txt", f"/artifacts/{'A' * 32}.png")


async def test_t87_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    """Sent as they are: a client library would tidy them up. Beside the folder lies the token, in it a link to the token."""
    async with shown(tmp_path) as (artifacts, _, url):
        artifacts.put(picture(), "png")
        (tmp_path / "token").write_text("the token of this host")
        (artifacts.folder / f"{'b' * 32}.txt").symlink_to(tmp_path / "token")
        (artifacts.folder / f".{'a' * 32}.png").write_text("the token of this host")
        for path in PATHS:
            status, said = await raw(url, path)
            assert status in {400, 404}, path
            assert b"token of this host" not in said, path


async def raw(url: str, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    said = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    return int(said.split()[1]), said


async def test_the_housekeeper_takes_away_what_is_too_old(shop: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "GAUGE_SECONDS", 0.01)
    artifacts = Artifacts(tmp_path / "artifacts", 10_000_000)
    old, young = artifacts.put(b"x", "txt"), artifacts.put(b"x", "txt")
    for name, age in ((old, 15), (young, 13)):
        os.utime(artifacts.folder / name, (shop.clock.now() - age * 86400.0,) * 2)
    swept = asyncio.Event()
    loop = asyncio.get_running_loop()

    def sweep(now: float) -> None:
        artifacts.sweep(now, 14 * 86400.0)
        loop.call_soon_threadsafe(swept.set)
    keeping = asyncio.create_task(chores.keep_house(shop.store, shop.exporter, shop.clock, lambda: (), lambda: 30 * 86400.0, sweep))
    await asyncio.wait_for(swept.wait(), 20)
    keeping.cancel()
    assert [path.name for path in artifacts.folder.iterdir()] == [young]


# ---- who may look


async def test_where_reading_needs_a_token_evidence_does_too(tmp_path: Path) -> None:
    async with shown(tmp_path, open_reads=False) as (artifacts, session, url):
        address = f"{url}/artifacts/{artifacts.put(picture(), 'png')}"
        for password, status in (("", 401), ("wrong-0123456789", 401), (READER, 200)):
            headers = {"Authorization": aiohttp.encode_basic_auth("any", password)} if password else {}
            async with session.get(address, headers=headers) as answer:
                assert answer.status == status
                assert status == 200 or answer.headers["WWW-Authenticate"].startswith("Basic")
        async with session.get(f"{url}/artifacts/{'0' * 32}.png") as answer:
            assert answer.status == 401, "nor is it told what there is"
        async with session.get(address, headers={"Authorization": f"Bearer {READER}"}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("site", "mode", "dest", "status"), [
    ("same-origin", "navigate", "document", 200), ("none", "navigate", "document", 200), ("same-origin", "no-cors", "image", 200),
    ("cross-site", "navigate", "document", 200),                                       # a link in a message
    ("cross-site", "no-cors", "image", 403), ("same-site", "no-cors", "image", 403), ("cross-site", "navigate", "iframe", 403),
    ("cross-site", "cors", "empty", 403), ("cross-site", "navigate", "object", 403), ("cross-site", "no-cors", "script", 403)])
async def test_no_page_of_another_site_gets_it_into_itself(tmp_path: Path, site: str, mode: str, dest: str, status: int) -> None:
    async with shown(tmp_path) as (artifacts, session, url):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        async with session.get(f"{url}/artifacts/{artifacts.put(picture(), 'png')}", headers=headers) as answer:
            assert answer.status == status


async def test_who_goes_away_in_the_middle_leaves_no_file_open(tmp_path: Path) -> None:
    async with shown(tmp_path) as (artifacts, _, url):
        path = f"/artifacts/{artifacts.put(os.urandom(8_000_000), 'txt')}"
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(5):
            sock = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
            await asyncio.get_running_loop().run_in_executor(None, sock.sendall, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await asyncio.sleep(0.02)
            sock.close()
        async with asyncio.timeout(20):
            while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110, PTH208 - nothing tells
                await asyncio.sleep(0.02)


# ---- the links


class _Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._href = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._href = dict(attrs).get("href") or "" if tag == "a" else ""

    def handle_data(self, data: str) -> None:
        if "/artifacts/" in self._href:
            self.found[data] = self._href
        self._href = ""


async def test_pages_link_to_the_evidence_and_still_escape_it(shop: Front) -> None:
    shop.targets = [target("home", "down", since=shop.clock.now() - 840, outcome="failed", reason="step", evidence=EVIDENCE)]
    await outage(shop, evidence=EVIDENCE)
    _, body, answer = await shop.ask("/")
    assert _Links(body).found == {"screenshot": f"/artifacts/{ONE}", "page": f"/artifacts/{TWO}"}
    assert body.count(f'<a href="/artifacts/{ONE}">screenshot</a>') == 2, "at the incident, and at the probe"
    assert "no &lt;button&gt;" in body
    assert "<button>" not in body
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("evidence", [
    f'screenshot artifacts/{ONE}" onclick=alert(1)', f"screenshot artifacts/../{ONE}", "screenshot artifacts/javascript:alert(1).png",
    f"<a href=x>screenshot artifacts/{ONE[:-4]}.html</a>", f"<script> artifacts/{ONE}"])
async def test_only_exactly_such_names_become_links(shop: Front, evidence: str) -> None:
    shop.targets = [target("home", "failing", outcome="failed", reason="step", evidence=evidence)]
    _, body, _ = await shop.ask("/")
    found = _Links(body).found
    assert found in ({}, {"screenshot": f"/artifacts/{ONE}"})
    assert "<a href=x>" not in body
    assert "<script>" not in body


async def test_the_post_mortem_links_to_the_evidence(shop: Front) -> None:
    now = shop.clock.now()
    await keep(shop, update(now, id="2026-09-21-1"), ("start", "ci", ""))
    await outage(shop, evidence=EVIDENCE)
    incident = shop.casebook.open[0]
    await shop.store.write(lambda c: c.execute("UPDATE incident SET update_id = '2026-09-21-1' WHERE id = ?", (incident.id,)))
    found = await shop.store.read(lambda c: report.gather(c, require(records.update(c, "2026-09-21-1")), None))
    page, text = (make(found, "till", now, "https://till.example") for make in (report.html, report.markdown))
    assert _Links(page).found == {"screenshot": f"https://till.example/artifacts/{ONE}", "page": f"https://till.example/artifacts/{TWO}"}
    assert "no &lt;button&gt;" in page
    assert f"[screenshot](<https://till.example/artifacts/{ONE}>) [page](<https://till.example/artifacts/{TWO}>)" in text
    assert r"no \<button\>" in text
    _, body, _ = await shop.ask("/api/v1/updates/2026-09-21-1/report")
    assert _Links(body).found["screenshot"] == f"/artifacts/{ONE}"
    assert "](<" not in report.markdown(found, "till", now), "without an address there is nothing to lead to"


def require(found: Any) -> Any:
    assert found is not None
    return found


# ---- in a real browser


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
async def test_a_browser_shows_the_picture_and_renders_no_page_of_the_shop(tmp_path: Path) -> None:
    async with shown(tmp_path) as (artifacts, _, url), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        page = await browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        await page.goto(f"{url}/artifacts/{artifacts.put(picture(), 'png')}")
        assert await page.evaluate("[document.images.length, document.images[0].naturalWidth, document.images[0].complete]") == [1, 8, True]
        assert complaints == []
        name, page = artifacts.put(HOSTILE, "txt"), await browser.new_page()
        async with page.expect_download() as download:
            with pytest.raises(Error, match="Download is starting"):
                await page.goto(f"{url}/artifacts/{name}")
        assert (await download.value).suggested_filename == name
        assert await page.title() == ""
        await browser.close()
