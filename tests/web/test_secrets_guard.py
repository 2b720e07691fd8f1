"""Who may do what: every route with every token, guesses, foreign pages, foreign names, and the headers of every answer (T84, T88, T89)."""

import ast
import asyncio
import hashlib
import re
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from listening import serve
from structlog.testing import capture_logs

from monitor.clock import ManualClock
from monitor.web import auth, openapi, problems
from monitor.web.api import Api
from monitor.web.artifacts import ArtifactPages
from monitor.web.auth import GUESSES, MOST_SOURCES, WINDOW, Guard, Guesses, Tokens
from monitor.web.operate import Operate
from monitor.web.pages import Pages
from monitor.web.probe import OnDemand
from monitor.web.settings import Scope, TokenSettings, WebSettings

ROOT = Path(__file__).resolve().parents[2]
SCOPES: tuple[Scope, ...] = ("read", "update", "operate", "admin")
TOKENS = {scope: f"{scope}-0123456789-0123456789" for scope in SCOPES}
LOCAL = "local-0123456789-0123456789-0123456789"
KINDS = {"get", "post", "put", "patch", "delete", "head", "options", "view", "route", "static"}

# The whole table: what a route asks for. A new one has to be entered here, and in docs/api.md.
NEEDS = {
    "GET /metrics": None, "GET /-/healthy": None, "GET /-/ready": None, "GET /api/v1/openapi.json": None,
    "POST /-/reload": "admin",
    "POST /api/v1/updates": "update", "POST /api/v1/updates/{id}/{act:phase|finish|rollback|cancel}": "update",
    "POST /api/v1/incidents/{id}/ack": "operate", "POST /api/v1/incidents/{id}/feedback": "operate",
    "POST /api/v1/silences": "operate", "POST /api/v1/silences/{id}/end": "operate",
}


def given() -> Tokens:
    return Tokens([TokenSettings.model_validate({"name": scope, "value": TOKENS[scope], "scopes": [scope]}) for scope in SCOPES], LOCAL)


def routes(guard: Guard) -> list[web.RouteDef]:
    """Of every room of the web, with nothing behind them: whoever is let in falls into a hole, and that is 500."""
    hole = cast("Any", None)
    api = Api(store=hole, exporter=hole, operations=hole, guard=guard, clock=hole, status=hole, targets=hole, shop="", reload=hole)
    operate = Operate(casebook=hole, silences=hole, store=hole, guard=guard, clock=hole)
    pages = Pages(store=hole, operations=hole, guard=guard, clock=hole, insight=hole)
    return [*api.routes(), *operate.routes(), *OnDemand(lambda: (), hole, guard).routes(), *pages.routes(),
            *ArtifactPages(hole, guard).routes(), *openapi.routes()]


@asynccontextmanager
async def house(*, open_reads: bool = False, **settings: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, str, ManualClock]]:
    clock = ManualClock()
    served = routes(Guard(given(), open_reads=open_reads, now=clock.now))
    with capture_logs():                                      # of what falls into the hole: drawing the traces would take longer than the test
        async with serve(WebSettings(listen="127.0.0.1:0", **settings), served) as port, aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{port}", clock


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def written() -> Iterator[str]:
    """Every route that stands anywhere in monitor/, read from its source: `web.get("/x", …)` and the like."""
    for path in (ROOT / "monitor").rglob("*.py"):
        if "demo" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "web" and node.func.attr in KINDS):
                assert node.func.attr in {"get", "post"}, f"{path}: a route of another kind"
                assert isinstance(node.args[0], ast.Constant), f"{path}: write the path of a route where it is made"
                yield f"{node.func.attr.upper()} {node.args[0].value}"


def test_every_route_that_is_written_is_tested_here() -> None:
    here = {f"{route.method} {route.path}" for route in routes(Guard(given(), open_reads=False))}
    assert set(written()) == here
    assert NEEDS.keys() <= here
    assert {route for route in here if route.startswith("POST")} == {route for route in NEEDS if route.startswith("POST")}


def everybody() -> list[tuple[str, str | None]]:
    return [*TOKENS.items(), ("local admin", LOCAL), ("nobody", None), ("a stranger", "wrong-0123456789"), ("a prefix", TOKENS["admin"][:-1]),
            ("too long", TOKENS["admin"] + "x"), ("empty", "")]


@pytest.mark.parametrize("open_reads", [True, False])
async def test_each_route_lets_in_whom_it_should_and_nobody_else(*, open_reads: bool) -> None:
    async with house(open_reads=open_reads) as (session, base, clock):
        for route in routes(Guard(given(), open_reads=open_reads)):
            needs = NEEDS.get(f"{route.method} {route.path}", None if open_reads else "read")
            path = re.sub(r"\{act:(\w+)[^}]*\}", r"\1", route.path).replace("{id}", "x")
            for who, token in everybody():
                clock.at += WINDOW
                async with session.request(route.method, base + path, headers={} if token is None else bearer(token)) as answer:
                    may = needs is None or who in {needs, "admin", "local admin"} or (needs == "read" and who in SCOPES)
                    expected = "in" if may else 403 if who in SCOPES else 401
                    got = answer.status if answer.status in {401, 403, 429} else "in"
                    assert got == expected, f"{who} at {route.method} {path}: {answer.status}"


async def test_other_ways_to_write_a_token() -> None:
    async with house() as (session, base, _):
        async def status(*headers: tuple[str, str]) -> int:
            async with session.get(base + "/api/v1/probes", headers=headers) as answer:
                return answer.status
        assert await status(("Authorization", f"bearer   {TOKENS['read']}")) == 500
        for wrong in (("Authorization", TOKENS["read"]), ("Authorization", f"Basic {TOKENS['read']}"), ("X-Token", TOKENS["read"]),
                      ("Cookie", f"token={TOKENS['read']}"), ("Authorization", "Bearer")):
            assert await status(wrong) == 401
        assert await status(("Authorization", f"Bearer {TOKENS['read']}"), ("Authorization", f"Bearer {TOKENS['admin']}")) == 401
        async with session.get(base + f"/api/v1/probes?token={TOKENS['read']}&access_token={TOKENS['read']}") as answer:
            assert answer.status == 401


# ---- guessing


async def test_guessing_is_slowed_down_and_a_right_token_gets_through() -> None:
    async with house(open_reads=True) as (session, base, clock):
        async def ask(token: str | None) -> tuple[int, str | None]:
            async with session.post(base + "/api/v1/updates", headers={} if token is None else bearer(token), json={"vershun": 1}) as answer:
                return answer.status, answer.headers.get("Retry-After")
        for _ in range(GUESSES):
            assert await ask("wrong-0123456789") == (401, None)
        clock.at += 20
        assert await ask("wrong-0123456789") == (429, "40")
        assert (await ask(TOKENS["update"]))[0] == 400
        assert (await ask(None))[0] == 401                         # no token is no guess
        clock.at += WINDOW
        assert await ask("wrong-0123456789") == (401, None)


def test_sources_are_remembered_within_bounds() -> None:
    clock = ManualClock()
    guesses = Guesses(clock.now)
    for number in range(3 * MOST_SOURCES):
        for _ in range(2):
            guesses.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        guesses.wrong("busy")
    assert len(guesses._seen) == MOST_SOURCES
    assert guesses.wrong("busy") > 0, "one that goes on is not forgotten for the sake of others"


@pytest.mark.parametrize(("remote", "source"), [
    ("10.0.0.1", "10.0.0.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"), ("", ""),
    ("::ffff:10.0.0.1", "::ffff:10.0.0.1")])
def test_whose_address_it_is(remote: str, source: str) -> None:
    assert auth._source(remote) == source


# ---- comparing


def test_only_digests_are_kept_and_all_of_them_are_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, compared = given(), []
    assert not any(value.encode() in repr(vars(tokens)).encode() for value in (*TOKENS.values(), LOCAL))

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other
    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    for token in (LOCAL, TOKENS["admin"], "wrong"):
        compared.clear()
        tokens.caller(token)
        assert len(compared) == len(SCOPES) + 1
        assert {other for _, other in compared} == {hashlib.sha256(token.encode()).digest()}


def test_the_time_it_takes_tells_nothing() -> None:
    """A token that is right but for its last character takes as long as one that is all wrong: within the noise of 10,000 tries each."""
    tokens = given()
    tries = {"near": TOKENS["read"][:-1] + "x", "far": "x" * len(TOKENS["read"])}
    took: dict[str, list[int]] = {name: [] for name in tries}
    for _ in range(10_000):
        for name, token in tries.items():
            begun = time.perf_counter_ns()
            tokens.caller(token)
            took[name].append(time.perf_counter_ns() - begun)
    near, far = (statistics.median(took[name]) for name in ("near", "far"))
    assert abs(near - far) < 0.1 * far


def test_a_token_that_could_be_guessed_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    Tokens([TokenSettings.model_validate({"name": "weak", "value": "hunter2-hunter2", "scopes": ["admin"]})], LOCAL)
    said = capsys.readouterr()
    assert "short enough to be guessed" in said.out + said.err
    assert "hunter2" not in said.out + said.err


# ---- foreign pages and foreign names


@pytest.mark.parametrize(("headers", "refused"), [
    ({}, False),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "{base}"}, False),
    ({"Sec-Fetch-Site": "none"}, False),
    ({"Origin": "https://till.example"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, True),
    ({"Sec-Fetch-Site": "same-site"}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
    ({"Origin": "https://evil.example"}, True),
    ({"Origin": "null"}, True),
    ({"Origin": ""}, True),
    ({"Origin": "https://till.example.evil.example"}, True),
    ({"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}, True),
])
async def test_a_foreign_page_changes_nothing_even_with_a_token(headers: dict[str, str], *, refused: bool) -> None:
    async with house(url="https://till.example/") as (session, base, _):
        sent = {name: value.format(base=base) for name, value in headers.items()} | bearer(TOKENS["admin"])
        async with session.post(base + "/api/v1/updates", headers=sent, data=b'{"vershun": 1}') as answer:
            assert answer.status == (403 if refused else 400), await answer.text()
        async with session.get(base + "/-/healthy", headers=sent) as answer:
            assert answer.status == 500, "reading is no change, and what is read a foreign page does not get"


async def test_no_foreign_page_may_read(tmp_path: Path) -> None:
    """No CORS header on any answer, so a browser keeps what it gets from the page that asked; and no preflight succeeds."""
    async with house(open_reads=True) as (session, base, _):
        for method, path in (("GET", "/api/v1/openapi.json"), ("OPTIONS", "/api/v1/updates"), ("GET", "/nothing")):
            sent = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
            async with session.request(method, base + path, headers=sent) as answer:
                assert not [name for name in answer.headers if name.lower().startswith("access-control")]
                assert method != "OPTIONS" or answer.status == 405


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:1", 200), ("localhost", 200), ("LOCALHOST:9464", 200), ("[::1]:9464", 200), ("till.example", 200), ("TILL.example:443", 200),
    ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example", 403), ("evil.example:9464", 403), ("till.example.", 403),
    ("", 403), ("[::1", 403), ("127.0.0.1@evil.example", 403), ("evil.example#localhost", 403), ("0x7f.1", 403),
])
async def test_only_own_names_are_served(host: str, status: int) -> None:
    """DNS rebinding: a foreign name that leads to loopback is not served, whatever is asked."""
    async with house(open_reads=True, url="https://till.example/") as (session, base, _):
        for method in ("GET", "POST"):
            async with session.request(method, base + "/api/v1/openapi.json", headers={"Host": host} | bearer(TOKENS["admin"])) as answer:
                assert answer.status == (405 if method == "POST" and status == 200 else status)


# ---- what every answer carries


async def test_every_answer_has_the_safe_headers_and_tells_no_version() -> None:
    async with house(open_reads=True) as (session, base, _):
        for asked in ("GET /api/v1/openapi.json", "GET /nothing", "POST /metrics", "POST /api/v1/updates", "GET /metrics", "HEAD /-/healthy",
                      "GET /api/v1/samples?limit=x"):
            method, _, path = asked.partition(" ")
            async with session.request(method, base + path) as answer:
                for name, value in problems.HEADERS.items():
                    assert answer.headers[name] == value, f"{name} of {method} {path} ({answer.status})"
                assert not re.search(r"aiohttp|python/", str(answer.headers), re.IGNORECASE)


async def test_an_error_of_our_own_tells_nothing_of_itself() -> None:
    async with house(open_reads=True) as (session, base, _), session.get(base + "/api/v1/probes") as answer:
        assert answer.status == 500
        body = await answer.json(content_type="application/problem+json")
        assert (body["code"], body["detail"]) == ("internal", "Tillwatch could not answer: its log has more")


async def test_what_takes_too_long_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for much and reads nothing is not waited for."""
    monkeypatch.setattr("monitor.web.door.READ_SECONDS", 0.2)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
    async with serve(WebSettings(listen="127.0.0.1:0"), [web.get("/endless", endless)]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.5)
        async with asyncio.timeout(20):
            while await reader.read(1 << 20):
                pass
        writer.close()
