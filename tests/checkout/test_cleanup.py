"""Cancelling orders: real programs, a real server; a number out of a hostile page does no more than being refused."""

import asyncio
import shlex
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from processes import Stopwatch, gone, until
from pydantic import ValidationError

from probes.checkout.cleanup import CleanupSettings, cancel

Program = Callable[..., CleanupSettings]


def settings(**keys: Any) -> CleanupSettings:
    return CleanupSettings.model_validate(keys)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Settings with a shell script as the command."""
    def made(script: str, *arguments: str, **keys: Any) -> CleanupSettings:
        path = tmp_path / "cancel"
        path.write_text(f"#!/bin/sh\ncd {shlex.quote(str(tmp_path))}\n{script}\n")
        path.chmod(0o700)
        return settings(command=[str(path), *(arguments or ("{order}",))], **keys)
    return made


@asynccontextmanager
async def shop(answer: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        found = answer(request)
        return await found if asyncio.iscoroutine(found) else found
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


# ---- by a program


async def test_each_order_is_handed_to_the_program(program: Program, tmp_path: Path) -> None:
    with_ = program('echo "$2 $TILLWATCH_ORDER" >> done', "--order", "{order}")
    assert await cancel(with_, ["1001", "#1002", "WC-7/2026", "1001"]) == {}
    assert (tmp_path / "done").read_text().splitlines() == ["1001 1001", "#1002 #1002", "WC-7/2026 WC-7/2026"]


async def test_what_is_still_there_is_told_with_the_reason(program: Program) -> None:
    with_ = program('[ "$1" = 2 ] && { echo "order 2 is shipped; token=abcdefabcdef12"; exit 3; }; exit 0')
    assert await cancel(with_, ["1", "2", "3"]) == {"2": "cancel ended with 3: order 2 is shipped; token=[hidden]"}


@pytest.mark.parametrize("order", [
    "1; touch pwned", "$(touch pwned)", "`touch pwned`", "1\ntouch pwned", "--all", "-rf", "../../etc/passwd", "a/../b", "a//b", "1 2", "*", "",
    "x" * 65,
    "1&admin=1", "1?x", "%2e%2e", "\u0661", "1\0", "'", '"', "{order}", "."])
async def test_a_hostile_number_is_not_handed_on(program: Program, tmp_path: Path, order: str) -> None:
    with_ = program("touch ran")
    assert await cancel(with_, [order]) == {order: "this is not handed on, for it does not look like the number of an order"}
    assert not (tmp_path / "ran").exists()


async def test_a_program_that_hangs_is_ended_with_all_that_it_started(program: Program, tmp_path: Path) -> None:
    with_ = program("trap '' TERM; sleep 60 & echo $! > child; echo $$ > self; sleep 60", timeout="3s")
    with Stopwatch() as watch:
        assert await cancel(with_, ["1"]) == {"1": "not done within 3 s"}
        assert watch() < 6
    for name in ("child", "self"):
        pid = int((tmp_path / name).read_text())
        until(lambda pid=pid: gone(pid), 20, f"the end of the {name}")  # type: ignore[misc]



async def test_time_for_all_of_them_is_bounded(program: Program) -> None:
    with Stopwatch() as watch:
        left = await cancel(program("sleep 60", timeout="5s"), [str(number) for number in range(50)], within=0.5)
        assert watch() < 3
    assert set(left) == {str(number) for number in range(50)}
    assert list(left.values())[1:] == ["no time was left"] * 49


async def test_a_flood_of_output_is_read_and_cut(program: Program) -> None:
    left = await cancel(program("yes 4539578763621486 | head -c 20000000; echo; echo secret-card 4539 5787 6362 1486; exit 1"), ["1"])
    assert left == {"1": "cancel ended with 1: secret-card [card …1486]"}


async def test_a_program_that_cannot_be_run(program: Program, tmp_path: Path) -> None:
    assert "No such file" in (await cancel(settings(command=["/nowhere/cancel", "{order}"]), ["1"]))["1"]
    with_ = program("exit 0")
    (tmp_path / "cancel").chmod(0o777)
    assert (await cancel(with_, ["1"]))["1"] == f"cancel is not run: everybody on this host can write to {tmp_path / 'cancel'}"
    killed = await cancel(program("kill -9 $$"), ["1"])
    assert killed == {"1": f"cancel was ended by signal {signal.SIGKILL.value}"}


async def test_its_environment_has_no_secret(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CARD", "very-secret-value")
    assert await cancel(program("env > env"), ["1"]) == {}
    assert "very-secret-value" not in (tmp_path / "env").read_text()


# ---- by a call


async def test_each_order_is_called_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEANUP_TOKEN", "secret-0123456789")
    seen: list[tuple[str, str, str | None]] = []

    def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, request.headers.get("Authorization")))
        return web.Response(status=204)
    async with shop(answer) as url:
        with_ = settings(url=f"{url}/orders/{{order}}/cancel?n={{order}}", method="DELETE", bearer_token={"env": "CLEANUP_TOKEN"})
        assert await cancel(with_, ["1001", "#A/7"]) == {}
    assert seen == [("DELETE", "/orders/1001/cancel?n=1001", "Bearer secret-0123456789"),
                    ("DELETE", "/orders/%23A%2F7/cancel?n=%23A%2F7", "Bearer secret-0123456789")]


@pytest.mark.parametrize(("status", "told"), [(200, ""), (202, ""), (410, ""), (404, "HTTP 404"), (302, "HTTP 302"), (500, "HTTP 500")])
async def test_what_an_answer_means(status: int, told: str) -> None:
    """404 may as well be a wrong address: what is not surely gone is still there."""
    async with shop(lambda _: web.Response(status=status, headers={"Location": "http://127.0.0.1:9/"})) as url:
        assert await cancel(settings(url=f"{url}/{{order}}"), ["1"]) == ({"1": told} if told else {})


async def test_a_server_that_is_silent_or_says_too_much_or_is_not_there() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
    async with shop(silent) as url:
        assert await cancel(settings(url=f"{url}/{{order}}", timeout="200ms"), ["1"]) == {"1": "not done within 0.2 s"}
    async with shop(endless) as url:
        assert await cancel(settings(url=f"{url}/{{order}}", timeout="30s"), ["1"]) == {}
    assert "1" in await cancel(settings(url="http://127.0.0.1:9/{order}"), ["1"])


async def test_a_secret_that_cannot_be_read_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLEANUP_TOKEN", raising=False)
    with_ = settings(url="http://127.0.0.1:9/{order}", bearer_token={"env": "CLEANUP_TOKEN"})
    assert await cancel(with_, ["1"]) == {"1": "the environment variable CLEANUP_TOKEN is not set, or empty"}


# ---- what is refused


@pytest.mark.parametrize(("keys", "words"), [
    ({}, "give either command or url"), ({"command": ["/bin/x", "{order}"], "url": "https://x/{order}"}, "give either command or url"),
    ({"command": []}, "at least 1 item"), ({"command": ["wp", "{order}"]}, "with its whole path"),
    ({"command": ["/bin/x"]}, "nothing says which order"),
    ({"command": ["/bin/{order}"]}, "nothing says which order"), ({"command": ["/bin/x", "{order}\0"]}, "NUL"),
    ({"url": "https://x/cancel"}, "nothing says which order"), ({"url": "ftp://x/{order}"}, "beginning with https"),
    ({"url": "https://{order}/"}, "in the host"),
    ({"url": "https://me:pw@x/{order}"}, "goes into bearer_token"), ({"url": "https://x/{order} y"}, "whole address"),
    ({"url": "https://x/{order}", "method": "GET"}, "method"), ({"command": ["/bin/x", "{order}"], "method": "PUT"}, "belong to url"),
    ({"url": "https://x/{order}", "timeout": "0s"}, "greater than 0"), ({"url": "https://x/{order}", "shell": True}, "shell")])
def test_settings_that_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**keys)
