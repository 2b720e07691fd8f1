"""What the http probe measures and expects, against servers that behave."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from loopback import NameServer, Shop, page, request_of, settings_of
from processes import Stopwatch

from probes.clients import Clients
from probes.http import probe
from probes.sample import Outcome, Sample

Ask = Callable[..., Awaitable[Sample]]
Serve = Callable[..., Awaitable[Shop]]
Names = Callable[..., Awaitable[tuple[NameServer, Clients]]]

HTML = page("<title>Caf\u00e9 &amp; Till</title>Add to basket", "200 OK", "Content-Type: text/html; charset=utf-8", "X-Cache: HIT")
JSON = page('{"status": {"indicator": "none", "up": true}, "items": [{"price": 9.5}], "n": 1}', "200 OK", "Content-Type: application/json")


# Expectations --------------------------------------------------------------------------------------------------------

EXPECT: list[tuple[bytes, dict[str, Any], str]] = [
    (HTML, {}, ""),
    (HTML, {"status": [200, 201]}, ""),
    (HTML, {"status": [404]}, "status"),
    (page("", "404 Not Found"), {"status": [404]}, ""),
    (page("", "404 Not Found"), {}, "status"),
    (page("", "301 Moved Permanently"), {}, "status"),
    (HTML, {"body_contains": ["Add to basket", "Caf\u00e9"]}, ""),
    (HTML, {"body_contains": "Add to basket"}, ""),
    (HTML, {"body_contains": ["Add to basket", "Sold out"]}, "body"),
    (HTML, {"body_not_contains": ["Fatal error"]}, ""),
    (HTML, {"body_not_contains": ["Fatal error", "basket"]}, "body"),
    (HTML, {"body_matches": [r"(?i)ADD\s+to"]}, ""),
    (HTML, {"body_matches": [r"^Add to basket$"]}, "body"),
    (page("Caf\u00e9".encode("latin-1"), "200 OK", "Content-Type: text/html; charset=iso-8859-1"), {"body_contains": ["Caf\u00e9"]}, ""),
    (page("Caf\u00e9".encode("latin-1"), "200 OK", "Content-Type: text/html; charset=hex"), {"body_contains": ["Caf\u00e9"]}, "body"),
    (HTML, {"header_matches": {"x-cache": "^HIT"}}, ""),
    (HTML, {"header_matches": {"x-cache": "^MISS"}}, "header"),
    (HTML, {"header_matches": {"x-none": "."}}, "header"),
    (page("", "200 OK", "Set-Cookie: a=1", "Set-Cookie: b=2"), {"header_matches": {"Set-Cookie": "^b="}}, ""),
    (JSON, {"json": {"status.indicator": "none", "status.up": True, "items.0.price": 9.5, "n": 1}}, ""),
    (JSON, {"json": {"status": {"indicator": "none"}}}, ""),
    (JSON, {"json": {"status.indicator": "major"}}, "json"),
    (JSON, {"json": {"status.up": 1}}, "json"),
    (JSON, {"json": {"status.none": "none"}}, "json"),
    (JSON, {"json": {"items.7.price": 9.5}}, "json"),
    (HTML, {"json": {"a": 1}}, "json"),
    (page(b"[" * 100_000), {"json": {"a": 1}}, "json"),
    (HTML, {"content_type": "text/html"}, ""),
    (HTML, {"content_type": "application/json"}, "content_type"),
    (page(), {"content_type": "text/html"}, "content_type"),
    (HTML, {"max_duration": "10s"}, ""),
    (HTML, {"max_duration": "1ms"}, "slow"),
]


@pytest.mark.parametrize(("answer", "expect", "reason"), EXPECT)
async def test_expectation(serve: Serve, answer: bytes, expect: dict[str, Any], reason: str, clients: Clients) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await asyncio.sleep(0.005)
        writer.write(answer)
        await writer.drain()
        await reader.read()

    shop = await serve(talk)
    sample = await probe(settings_of(f"http://127.0.0.1:{shop.port}/", expect=expect), clients)
    assert sample.reason == reason, sample.evidence
    assert sample.outcome is (Outcome.FAILED if reason else Outcome.OK)
    assert bool(sample.evidence) == bool(reason)
    assert sample.facts["failed_due_to_regex"] == (reason in ("body", "header"))


async def test_final_url(serve: Serve, ask: Ask) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await request_of(reader)).split()[1]
        writer.write(page() if path.startswith("/end") else page("", "302 Found", "Location: /end?a=1"))
        await writer.drain()
        await reader.read()

    url = f"http://127.0.0.1:{(await serve(talk)).port}"
    for wanted, reason in (("/end?a=1", ""), ("/end*", ""), ("/other", "final_url"), ("/other*", "final_url")):
        assert (await ask(f"{url}/", expect={"final_url": url + wanted})).reason == reason


async def test_a_bad_pattern_takes_no_time(serve: Serve, ask: Ask) -> None:
    shop = await serve(page(b"a" * 65_536 + b"!"))
    began = process_time()
    sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"body_matches": ["(a+)+$"]})
    assert sample.reason == "body"
    assert process_time() - began < 0.5


async def test_a_group_that_matches_takes_no_time(serve: Serve, ask: Ask) -> None:
    shop = await serve(page(b"a" * 1_900_000))
    began = process_time()
    sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"body_matches": ["(a+)+$", "(.*a){20}$"]})
    assert sample.outcome is Outcome.OK
    assert process_time() - began < 0.5              # with the groups looked for, 2 s


async def test_json_of_too_many_values_is_not_read(serve: Serve, ask: Ask) -> None:
    for body, reason in ((b'{"a":1,"b":[' + b"[]," * 150_000 + b"[]]}", "json"), (b'{"a":1,"b":[' + b"[]," * 50_000 + b"[]]}", "")):
        shop = await serve(page(body))
        sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"json": {"a": 1}})
        assert sample.reason == reason, sample.evidence


async def test_evidence_says_what_came_and_what_was_wanted(serve: Serve, ask: Ask) -> None:
    shop = await serve(page("<html><title>\n Oops,\n 4111 1111 1111 1111 </title>", "500 Internal Server Error"))
    sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"status": [200]})
    assert sample.evidence == 'HTTP 500 Internal Server Error, wanted 200; "Oops, [card …1111]"'


# Explanations --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("answer", "reason", "outcome"),
    [
        (page("", "503 Service Unavailable", "Retry-After: 600"), "maintenance", Outcome.FAILED),
        (page("", "503 Service Unavailable"), "status", Outcome.FAILED),
        (page("<title>503 Backend fetch failed</title>Guru Meditation", "503 Backend fetch failed", "Retry-After: 5"), "status", Outcome.FAILED),
        (page("Briefly unavailable for scheduled maintenance. Check back in a minute.", "503 Service Unavailable"), "maintenance", Outcome.FAILED),
        (page("<body class='is-ctl-maintenance'>", "503 Service Unavailable"), "maintenance", Outcome.FAILED),
        (page("<title>Wartungsarbeiten</title>", "503 Service Unavailable"), "maintenance", Outcome.FAILED),
        (page("<link href='/errors/default/css/styles.css'>", "503 Service Temporarily Unavailable"), "maintenance", Outcome.FAILED),
        (page("<title>Just a moment...</title>", "403 Forbidden"), "challenged", Outcome.BROKEN),
        (page("", "403 Forbidden", "cf-mitigated: challenge"), "challenged", Outcome.BROKEN),
        (page("", "202 Accepted", "x-amzn-waf-action: challenge"), "challenged", Outcome.BROKEN),
        (page("", "429 Too Many Requests"), "challenged", Outcome.BROKEN),
        (page("<div class='g-recaptcha'>", "403 Forbidden"), "challenged", Outcome.BROKEN),
        (page("<div class='g-recaptcha'>", "500 Internal Server Error"), "status", Outcome.FAILED),
    ],
)
async def test_explained(serve: Serve, ask: Ask, answer: bytes, reason: str, outcome: Outcome) -> None:
    shop = await serve(answer)
    sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"body_contains": ["basket"]})
    if sample.reason == "body":                  # a 202 passes the default range
        pytest.fail(sample.evidence)
    assert (sample.reason, sample.outcome) == (reason, outcome), sample.evidence


async def test_an_expected_page_is_never_explained_away(serve: Serve, ask: Ask) -> None:
    shop = await serve(page("<title>Car maintenance</title>Briefly unavailable for scheduled maintenance"))
    assert (await ask(f"http://127.0.0.1:{shop.port}/")).outcome is Outcome.OK


# Measuring -----------------------------------------------------------------------------------------------------------

async def test_phases_and_facts(serve: Serve, ask: Ask) -> None:
    at: list[float] = []                         # when the server had the request, answered, and ended

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        at.append(time.monotonic())
        await asyncio.sleep(0.1)
        at.append(time.monotonic())
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await writer.drain()
        await asyncio.sleep(0.2)
        at.append(time.monotonic())
        writer.write(b"world")
        await writer.drain()

    shop = await serve(slow)
    with Stopwatch() as watch:
        sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"body_contains": ["helloworld"]})
        kept = watch.kept
    assert sample.outcome is Outcome.OK
    assert sample.values["processing"] == pytest.approx(at[1] - at[0], abs=0.08 + kept)
    assert sample.values["transfer"] == pytest.approx(at[2] - at[1], abs=0.08 + kept)
    assert sample.values["tls"] == 0
    assert sample.seconds == pytest.approx(sum(sample.values.values()), abs=1e-6)
    assert sample.facts["version"] == 1.0
    assert sample.facts["content_length"] == -1
    assert sample.facts["ssl"] == 0
    assert "cert_expiry" not in sample.facts


async def test_tls_facts(serve: Serve, ask: Ask, certificate: Any, ca_file: str) -> None:
    shop = await serve(page("hello"), tls=certificate(days=10))
    url = f"https://127.0.0.1:{shop.port}/"
    sample = await ask(url, tls={"ca_file": ca_file, "min_days_left": 9})
    assert sample.outcome is Outcome.OK, sample.evidence
    assert sample.values["tls"] > 0
    assert sample.facts["ssl"] == 1
    assert sample.facts["version"] == 1.1
    assert sample.facts["content_length"] == 5
    assert sample.facts["cert_expiry"] == pytest.approx(time.time() + 10 * 86_400, abs=60)
    assert (await ask(url, tls={"ca_file": ca_file, "min_days_left": 11})).reason == "tls_min_days"


async def test_server_name_and_connect_to(serve: Serve, ask: Ask, certificate: Any, ca_file: str) -> None:
    shop = await serve(page(), tls=certificate("shop.example"))
    place = f"127.0.0.1:{shop.port}"
    sample = await ask("https://shop.example/x", connect_to=place, tls={"ca_file": ca_file})
    assert sample.outcome is Outcome.OK, sample.evidence
    assert "\r\nHost: shop.example\r\n" in shop.requests[0]
    assert (await ask(f"https://{place}/", tls={"ca_file": ca_file, "server_name": "shop.example"})).outcome is Outcome.OK


async def test_connection_is_fresh_and_request_is_as_told(serve: Serve, ask: Ask) -> None:
    shop = await serve(page())
    for _ in range(2):
        await ask(
            f"http://127.0.0.1:{shop.port}/p?q=1#part", method="POST", body="a=1",
            headers={"User-Agent": "me", "X-Test": "1"}, basic_auth={"username": "u", "password": "p\u00e4ss"},
        )
    assert len(shop.requests) == 2
    assert shop.requests[0].startswith("POST /p?q=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    for line in ("Connection: close", "User-Agent: me", "X-Test: 1", "Content-Length: 3", "Authorization: Basic dTpww6Rzcw=="):
        assert f"\r\n{line}\r\n" in shop.requests[0]


async def test_secrets_do_not_appear(serve: Serve, ask: Ask) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await request_of(reader)
        writer.write(page(f"<title>{request.splitlines()[-3]} s3cret-token</title>", "500 s3cret-token"))
        await writer.drain()
        await reader.read()

    shop = await serve(echo)
    sample = await ask(f"http://127.0.0.1:{shop.port}/", bearer_token="s3cret-token")
    assert sample.reason == "status"
    assert "s3cret" not in repr(sample)


async def test_a_secret_that_cannot_be_read_is_ours(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    sample = await ask("http://127.0.0.1:1/", bearer_token={"env": "NOT_THERE"})
    assert (sample.reason, sample.outcome) == ("settings", Outcome.BROKEN)
    monkeypatch.setenv("NOT_THERE", "a\r\nX-Evil: 1")
    assert (await ask("http://127.0.0.1:1/", bearer_token={"env": "NOT_THERE"})).reason == "settings"


async def test_a_tls_file_that_cannot_be_read_is_ours(ask: Ask, tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", tmp_path):
        sample = await ask("https://127.0.0.1:1/", tls={"ca_file": str(path)})
        assert (sample.reason, sample.outcome) == ("settings", Outcome.BROKEN), sample.evidence
        assert str(path) in sample.evidence


async def test_context_is_shared_and_renewed_with_its_file(clients: Clients, ca_file: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(ca_file, tmp_path))
    tls = settings_of("https://a/", tls={"ca_file": str(path)}).tls
    first = await clients.context(tls)
    assert await clients.context(settings_of("https://b/", tls={"ca_file": str(path), "min_days_left": 5}).tls) is first
    os.utime(path, (1, 1))
    assert await clients.context(tls) is not first


async def test_head_has_no_body(serve: Serve, ask: Ask) -> None:
    shop = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    sample = await ask(f"http://127.0.0.1:{shop.port}/", method="HEAD")
    assert sample.outcome is Outcome.OK
    assert sample.facts["content_length"] == 5000


# Redirects and cookies -----------------------------------------------------------------------------------------------

async def test_redirects_keep_credentials_at_home(serve: Serve, names: Names) -> None:
    foreign = await serve(page())
    home = await serve(page("", "302 Found", f"Location: http://other.test:{foreign.port}/"))
    _, clients = await names({"shop.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
    settings = settings_of(
        f"http://shop.test:{home.port}/", bearer_token="t0ken", headers={"Cookie": "a=1", "X-Api-Key": "k", "Accept-Language": "de"},
    )
    sample = await probe(settings, clients)
    assert sample.outcome is Outcome.OK, sample.evidence
    assert sample.facts["redirects"] == 1
    assert "Bearer t0ken" in home.requests[0]
    assert "Cookie: a=1" in home.requests[0]
    assert "Accept-Language: de" in foreign.requests[0]
    for word in ("t0ken", "Cookie", "X-Api-Key"):
        assert word not in foreign.requests[0]


async def test_no_credentials_from_https_to_http(serve: Serve, ask: Ask, certificate: Any, ca_file: str) -> None:
    plain = await serve(page())
    secure = await serve(page("", "302 Found", f"Location: http://127.0.0.1:{plain.port}/"), tls=certificate())
    sample = await ask(f"https://127.0.0.1:{secure.port}/", tls={"ca_file": ca_file}, bearer_token="t0ken")
    assert sample.outcome is Outcome.OK, sample.evidence
    assert "t0ken" in secure.requests[0]
    assert "t0ken" not in plain.requests[0]
    assert sample.facts["ssl"] == 0
    assert "cert_expiry" in sample.facts


async def test_cookies_live_for_one_run_on_one_host(serve: Serve, ask: Ask) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await request_of(reader)
        shop.requests.append(request)
        known = "seen=1" in request
        writer.write(page() if known else page("", "302 Found", "Location: /", "Set-Cookie: seen=1; Path=/", "Set-Cookie: s=2; Secure"))
        await writer.drain()
        await reader.read()

    shop = await serve(talk)
    for _ in range(2):
        sample = await ask(f"http://127.0.0.1:{shop.port}/", headers={"Cookie": "mine=0"})
        assert sample.outcome is Outcome.OK, sample.evidence
        assert sample.facts["redirects"] == 1
    cookies = [line for request in shop.requests for line in request.splitlines() if line.startswith("Cookie")]
    assert cookies == ["Cookie: mine=0", "Cookie: mine=0; seen=1"] * 2


async def test_too_many_redirects(serve: Serve, ask: Ask) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = int((await request_of(reader)).split()[1][1:] or 0)
        shop.requests.append(str(number))
        writer.write(page("", "302 Found", f"Location: /{number + 1}") if number < 6 else page())
        await writer.drain()
        await reader.read()

    shop = await serve(talk)
    url = f"http://127.0.0.1:{shop.port}/"
    assert (await ask(url)).reason == "redirects"
    assert len(shop.requests) == 6
    assert (await ask(url, max_redirects=6)).outcome is Outcome.OK
    assert (await ask(url, follow_redirects=False)).reason == "status"
    assert (await ask(url, follow_redirects=False, expect={"status": [302]})).outcome is Outcome.OK


@pytest.mark.parametrize(("status", "second"), [(302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
async def test_method_of_a_redirected_post(serve: Serve, ask: Ask, status: int, second: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await request_of(reader)
        shop.requests.append(request)
        writer.write(page() if " /end " in request else page("", f"{status} Go", "Location: /end"))
        await writer.drain()
        await reader.read()

    shop = await serve(talk)
    assert (await ask(f"http://127.0.0.1:{shop.port}/", method="POST", body="a=1")).outcome is Outcome.OK
    assert shop.requests[1].startswith(second)
    assert ("Content-Length: 3" in shop.requests[1]) == (second == "POST")


async def test_a_body_is_not_sent_to_another_host(serve: Serve, ask: Ask) -> None:
    shop = await serve(page("", "307 Go", "Location: http://127.0.0.2:1/"))
    assert (await ask(f"http://127.0.0.1:{shop.port}/", method="POST", body="password=1")).reason == "redirects"
