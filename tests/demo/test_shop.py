"""The bundled shop as its visitors, its operator and a log probe see it: the real process on loopback."""

import asyncio
import json
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from processes import Stopwatch, ending

from monitor.demo import releases

CARD = {"card": "4242 4242 4242 4242", "name": "Test Buyer", "email": "test@example.com"}
GUEST = CARD | {"product": "sencha"}
JSON = {"Accept": "application/json"}
COMMAND = [sys.executable, "-m", "monitor.demo.shop"]
COMBINED = re.compile(
    r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}(?::\d\d){3} [+-]\d{4}\] "([^"]*)" (\d{3}) \d+ "[^"]*" "[^"]*" (\d+\.\d{3})')
READING = ["/", "/category/coffee", "/search?q=green+tea", "/product/sencha", "/basket", "/healthz"]


class Shop(NamedTuple):
    """A running shop."""

    process: "subprocess.Popen[str]"
    folder: Path
    url: str

    def deploy(self, release: str) -> "subprocess.CompletedProcess[str]":
        command = [*COMMAND, "deploy", release, "--dir", str(self.folder)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    def put_live(self, release: str) -> None:
        """The same from here. A new file each time: of one that is written over, two writes within a tick of the clock look like one."""
        releases.deploy(self.folder, release)


def start(folder: Path, *options: str) -> Shop:
    process = subprocess.Popen([*COMMAND, "--port", "0", "--dir", folder, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    ready = json.loads(process.stdout.readline())
    assert ready["ready"] is True
    return Shop(process, folder, f"http://127.0.0.1:{ready['port']}")


def stop(shop: Shop) -> None:
    shop.process.kill()
    shop.process.communicate()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = start(tmp_path_factory.mktemp("shop"))
    yield shop
    stop(shop)


@pytest.fixture
def shop(running: Shop) -> Shop:
    """The running shop, back at its first release."""
    running.put_live("1.0")
    return running


@pytest.fixture
async def visitor(shop: Shop) -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)        # cookies from an address without a name
    async with aiohttp.ClientSession(shop.url, cookie_jar=jar) as session:
        yield session


async def text(visitor: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with visitor.get(path) as answer:
        assert answer.status == status
        return await answer.text()


async def logged(shop: Shop, words: str) -> str:
    """The access log, once `words` stand in it: a line is written after the visitor has the answer."""
    for _ in range(1000):
        log = (shop.folder / "access.log").read_text()
        if words in log:
            return log
        await asyncio.sleep(0.01)
    raise AssertionError(f"{words} is not in {log}")


async def pay(visitor: aiohttp.ClientSession, **changed: str) -> tuple[int, dict[str, str]]:
    async with visitor.post("/checkout/payment", data=GUEST | changed, headers=JSON) as answer:
        return answer.status, await answer.json()


async def compared(shop: Shop, visitor: aiohttp.ClientSession, path: str, n: int = 20) -> tuple[float, float]:
    """The median times of a page under 1.0 and under 2.0, which take turns: what else the machine does meets both."""
    took: dict[str, list[float]] = {"1.0": [], "2.0": []}
    with Stopwatch(shop.process.pid) as watch:
        for _ in range(n):
            for release, times in took.items():
                shop.put_live(release)
                watch.again()
                await text(visitor, path)
                times.append(watch())
    return statistics.median(took["1.0"]), statistics.median(took["2.0"])


@pytest.mark.parametrize("release", ["1.0", "1.1", "2.0"])
async def test_every_reading_page_answers_and_names_its_release(
    shop: Shop, visitor: aiohttp.ClientSession, release: str,
) -> None:
    shop.put_live(release)
    bodies = {path: await text(visitor, path) for path in READING}
    assert json.loads(bodies.pop("/healthz")) == {"status": "ok"}
    assert all(f'<meta name="generator" content="Kettle {release}">' in body for body in bodies.values())
    assert "Sencha Kagoshima" in bodies["/search?q=green+tea"]
    assert "Add to basket" in bodies["/product/sencha"]
    styles = {address for body in bodies.values() for address in re.findall(r"/static/[^\"]+", body)}
    assert len(styles) == 1
    assert ".price" in await text(visitor, styles.pop())


async def test_the_good_update_looks_different_and_reads_the_same(shop: Shop, visitor: aiohttp.ClientSession) -> None:
    before = await text(visitor, "/")
    assert json.loads(shop.deploy("1.1").stdout) == {"deployed": "1.1", "before": "1.0"}
    after = await text(visitor, "/")
    assert "Recommended for you" in after
    assert "Recommended for you" not in before
    assert 1.01 < len(after) / len(before) < 1.3
    assert (await pay(visitor))[0] == 200


async def test_a_customer_buys_with_a_basket(visitor: aiohttp.ClientSession) -> None:
    async with visitor.post("/basket", data={"product": "matcha", "quantity": "2"}) as answer:
        cookie = answer.history[0].headers["Set-Cookie"]
        assert "€49.00" in await answer.text()
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Pay now" in await text(visitor, "/checkout")
    async with visitor.post("/checkout/payment", data=CARD) as answer:
        assert re.fullmatch("/order/KL-[0-9a-f]{12}", answer.url.path)
        body = await answer.text()
    assert "Thank you for your order" in body
    assert "€49.00" in body
    assert "Your basket is empty" in await text(visitor, "/basket")


async def test_a_program_pays_in_one_request_without_cookies(shop: Shop) -> None:
    async with aiohttp.ClientSession(shop.url, cookie_jar=aiohttp.DummyCookieJar()) as program:
        status, said = await pay(program, quantity="2")
        assert status == 200
        assert (said["status"], said["total"]) == ("paid", "€23.00")
        assert said["order"] in await text(program, said["url"])
        async with program.post("/checkout/payment", data=GUEST) as answer:
            assert answer.status == 200
            assert "Thank you for your order" in await answer.text()


@pytest.mark.parametrize(("wrong", "status", "words"), [
    ({"card": "4000 0000 0000 0002"}, 402, "refused"),
    ({"card": ""}, 400, "card"),
    ({"email": "nobody"}, 400, "e-mail"),
    ({"name": " "}, 400, "name"),
    ({"product": "gold"}, 400, "empty"),
])
async def test_payments_that_cannot_be(
    visitor: aiohttp.ClientSession, wrong: dict[str, str], status: int, words: str,
) -> None:
    got, said = await pay(visitor, **wrong)
    assert got == status
    assert words in said["error"]
    async with visitor.post("/checkout/payment", data=GUEST | wrong) as answer:
        assert answer.status == status
        assert words in await answer.text()


async def test_a_product_is_taken_out_of_the_basket(visitor: aiohttp.ClientSession) -> None:
    for quantity in ("3", "0"):
        async with visitor.post("/basket", data={"product": "assam", "quantity": quantity}) as answer:
            body = await answer.text()
        assert ("Assam Breakfast" in body) == (quantity == "3")
    assert "Your basket is empty" in await text(visitor, "/checkout")


@pytest.mark.parametrize("path", ["/nowhere", "/product/gold", "/category/gold", "/order/KL-0", "/static/kettle-9.css"])
async def test_what_is_not_there_is_404(visitor: aiohttp.ClientSession, path: str) -> None:
    assert "Page not found" in await text(visitor, path, status=404)


async def test_hostile_input_is_escaped_and_bounded(shop: Shop, visitor: aiohttp.ClientSession) -> None:
    for release in ("1.0", "1.1"):
        shop.put_live(release)
        body = await text(visitor, "/search?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
        assert "<script" not in body
        assert "&lt;script&gt;alert(1)" in body
    async with visitor.post("/basket", data=b"a=1&" * 21) as answer:
        assert answer.status == 400
    async with visitor.post("/basket", data=b"x" * 20_000) as answer:
        assert answer.status == 413
    async with visitor.get("/nowhere", headers={"User-Agent": 'a"b\\c'}) as answer:
        assert answer.status == 404
    await logged(shop, r'"a\x22b\x5Cc"')


async def test_access_log_lines_parse_and_no_customer_is_in_the_logs(
    shop: Shop, visitor: aiohttp.ClientSession,
) -> None:
    await pay(visitor)
    with Stopwatch(shop.process.pid) as watch:
        await text(visitor, "/product/sencha?from=log")
        log = await logged(shop, "from=log")
        withheld = watch.kept
    lines = log.splitlines()
    matches = [COMBINED.fullmatch(line) for line in lines]
    assert all(matches)
    request, status, took = next(match.groups() for match in matches if match and "from=log" in match[1])
    assert (request, status) == ("GET /product/sencha?from=log HTTP/1.1", "200")
    assert 0.002 < float(took) < 1 + withheld
    log += (shop.folder / "error.log").read_text()
    assert "4242" not in log
    assert "example.com" not in log


async def test_the_bad_release_loses_payments_and_says_why_in_its_log(
    shop: Shop, visitor: aiohttp.ClientSession,
) -> None:
    assert all(status == 200 for status, _ in [await pay(visitor) for _ in range(10)])
    shop.put_live("2.0")
    statuses = [status for status, _ in await asyncio.gather(*(pay(visitor) for _ in range(80)))]
    assert set(statuses) == {200, 500}
    assert 16 <= statuses.count(500) <= 56        # 36 expected; this leaves four and a half standard deviations
    async with visitor.get("/healthz") as answer:
        assert answer.status == 200
    log = (shop.folder / "error.log").read_text()
    entry = re.compile(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR \[kettle\.request\] Internal Server Error: /checkout/payment\n"
        r"Traceback \(most recent call last\):\n(?:  .*\n)+KeyError: 'three_ds'$", re.MULTILINE)
    entries = entry.findall(log)
    assert len(entries) == statuses.count(500)
    last_frame = re.findall(r'File "(.*)", line \d+, in (\w+)', entries[0])[-1]
    assert last_frame[0].endswith("monitor/demo/payment_gateway.py")
    assert last_frame[1] == "_reference"


async def test_people_get_an_apology_when_a_payment_fails(tmp_path: Path) -> None:
    shop = start(tmp_path, "--release", "2.0", "--payment-failures", "1")
    try:
        async with aiohttp.ClientSession(shop.url) as visitor, visitor.post("/checkout/payment", data=GUEST) as answer:
            assert answer.status == 500
            assert "Sorry, something went wrong" in await answer.text()
    finally:
        stop(shop)


async def test_the_bad_release_has_a_slow_catalogue(shop: Shop, visitor: aiohttp.ClientSession) -> None:
    catalogue = ["/category/coffee", "/search?q=tea", "/product/sencha"]
    pairs = [await compared(shop, visitor, path) for path in catalogue]
    assert all(1.6 < slow / quick < 4 for quick, slow in pairs), pairs
    before, after = await compared(shop, visitor, "/basket")
    assert after < before * 1.6


async def test_an_unknown_release_changes_nothing(shop: Shop, visitor: aiohttp.ClientSession) -> None:
    for release in ("1.0", "3.0"):
        shop.put_live(release)
        assert "Kettle 1.0" in await text(visitor, "/")
    assert "unknown release '3.0'" in (shop.folder / "error.log").read_text()
    assert shop.deploy("3.0").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_at_once_and_starts_again_with_what_was_deployed(tmp_path: Path, number: int) -> None:
    shop = start(tmp_path)
    shop.put_live("1.1")
    async with aiohttp.ClientSession(shop.url) as visitor:      # whose connection stays open
        await text(visitor, "/")
        shop.process.send_signal(number)
        assert await asyncio.to_thread(ending, shop.process, 20) < 2
        output, _ = shop.process.communicate()
    assert shop.process.returncode == 0
    assert output == ""
    again = start(tmp_path)
    try:
        async with aiohttp.ClientSession(again.url) as visitor:
            assert "Kettle 1.1" in await text(visitor, "/")
    finally:
        stop(again)


def test_a_taken_port_is_said_in_words(shop: Shop, tmp_path: Path) -> None:
    port = shop.url.rpartition(":")[2]
    done = subprocess.run([*COMMAND, "--port", port, "--dir", tmp_path], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"cannot listen on port {port}" in done.stderr
