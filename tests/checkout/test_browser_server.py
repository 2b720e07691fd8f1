"""`tillwatch browser --listen`: several daemons share a browser over a socket that protects itself from all of them."""

import asyncio
import gc
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hostile_pages import hostile_shop
from processes import Stopwatch
from worker_ward import CHROMIUM, Ward, allow, bad, descriptors, job, ward

from probes.checkout import frames
from probes.checkout.job import VERSION
from probes.checkout.link import Link
from probes.checkout.server import ServedError, serve
from probes.checkout.settings import BrowserSettings
from probes.checkout.talk import run_message


@pytest.fixture
def path() -> Iterator[Path]:
    """Of a socket: short, as such a path must be."""
    folder = Path(tempfile.mkdtemp(prefix="sock-", dir="/tmp"))
    yield folder / "s"
    shutil.rmtree(folder)


def link(path: Path) -> Link:
    return Link(BrowserSettings().model_copy(update={"socket": path}))


@asynccontextmanager
async def serving(path: Path, mode: str = "fine") -> AsyncIterator[Ward]:
    """A server in this process, whose worker is one of bad_worker's; its keeper hears nothing, for the client does."""
    with ward(bad(mode)) as one:
        ready = asyncio.Event()
        task = asyncio.create_task(serve(path, BrowserSettings(), ready=ready.set, keeper=one.keeper))
        await asyncio.wait([task, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        try:
            yield one
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert one.leftovers() == []
            assert not path.exists()  # noqa: ASYNC240


async def fine(path: Path) -> None:
    report = await link(path).run(job(), lambda _: None, allow)
    assert (report.reason, report.seconds) == ("", 0.5), report


async def test_runs_and_questions_travel_over_the_socket(path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    asked: list[int] = []

    async def ask() -> str:
        asked.append(1)
        return ""
    async with serving(path) as one:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660  # noqa: ASYNC240
        report = await link(path).run(job(), told.append, allow)
        assert ([step.name for step in report.steps], [message["state"] for message in told]) == (["basket"], ["begun", "ok"])
        assert len(one.find("all")) == 1                   # warm
    async with serving(path, "asks and dies"):
        report = await link(path).run(job(), told.append, ask)
        assert (report.reason, report.submitted, asked) == ("browser", True, [1])
        assert report.evidence == 'step "basket": the browser worker broke off: it ended (it was ended by signal 9)'


async def test_several_daemons_wait_for_their_turn(path: Path) -> None:
    async with serving(path) as one:
        await asyncio.gather(*(fine(path) for _ in range(8)))
        assert one.keeper._child
        assert one.keeper._child.runs == 8


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.01)


async def test_a_client_that_goes_has_its_run_ended_and_the_next_one_has_its_turn(path: Path) -> None:
    async with serving(path, "hangs") as one:
        gone = asyncio.create_task(link(path).run(job(timeout=30), lambda _: None, allow))
        await until(lambda: one.find("all") != [])
        waiting = asyncio.create_task(link(path).run(job(timeout=30), lambda _: None, allow))
        await asyncio.sleep(0.05)
        (first,) = one.find("all")
        gone.cancel()
        await until(lambda: one.find("all") not in ([first], []))
        waiting.cancel()
        await asyncio.wait([gone, waiting])
        await one.nothing_left()


async def send(path: Path, data: bytes) -> bytes:
    """What the server says to somebody who sends this, until it hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


GARBAGE = b"\xff" * 4 + Random(1).randbytes(1_000_000)          # what looks like a length is one that is refused


async def test_bad_clients_are_sent_away_and_harm_nobody(path: Path) -> None:
    good = run_message(job())
    stray: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
    async with serving(path) as one:
        before = descriptors()
        for data in (GARBAGE, b"GET / HTTP/1.1\r\n\r\n", (2**31).to_bytes(4, "big"), (5_000_000).to_bytes(4, "big"),
                     frames.encode({"t": "cancel"}), frames.encode(good | {"version": VERSION + 1}), frames.encode(good | {"job": {}}),
                     frames.encode(good | {"job": {"launch": []}}), frames.encode(good | {"job": {"launch": {}, "surprise": 1}}),
                     frames.encode(good | {"job": {"run": 1, "probe": {}, "url": [], "timeout": "long", "launch": {}}})):
            said = await send(path, data)
            assert said[4:16] in (b'{"t":"hello"', b""), said
        assert one.leftovers() == []
        for data in (frames.encode(good) + b"\xff" * 100, frames.encode(good) * 2):
            await send(path, data)
        silent = [await asyncio.open_unix_connection(str(path)) for _ in range(40)]
        for _, writer in silent:
            writer.transport.abort()
        for _ in range(20):                                # until all of them have been let in
            await asyncio.sleep(0.002)
        await until(lambda: not any(task.get_name() == "browser client" for task in asyncio.all_tasks()))
        await fine(path)
        await one.keeper.close()
        await until(lambda: descriptors() == before)
        gc.collect()                                       # by which tasks tell what nobody asked them for
        assert (descriptors(), stray) == (before, [])


async def test_a_silent_client_is_sent_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.checkout.server._ASKING", 0.2)
    async with serving(path):
        assert b"hello" in await send(path, b"")
        assert b"hello" in await send(path, b"\0\0")


async def test_an_old_socket_is_replaced_and_one_that_serves_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    async with serving(path):
        with pytest.raises(ServedError, match="another one serves there already"):
            await serve(path, BrowserSettings())
        await fine(path)
    path.write_text("a file")  # noqa: ASYNC240
    with pytest.raises(ServedError, match="Address already in use"):
        await serve(path, BrowserSettings())
    assert path.read_text() == "a file"  # noqa: ASYNC240
    with pytest.raises(ServedError, match="No such file"):
        await serve(Path("/nonexistent/socket"), BrowserSettings())


async def answer(path: Path, data: bytes) -> str:
    """What the daemon's end says when whoever serves there sends this and hangs up."""
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        with suppress(ConnectionError):
            await reader.read(10)                          # the job, or the end
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        over.set()
    server = await asyncio.start_unix_server(talk, str(path))
    report = await link(path).run(job(), lambda _: None, allow)
    await over.wait()
    server.close()
    await server.wait_closed()
    path.unlink()  # noqa: ASYNC240
    assert report.reason == "browser"
    return report.evidence


async def test_the_daemon_survives_whoever_serves_there(path: Path) -> None:
    report = await link(path).run(job(), lambda _: None, allow)
    assert report.reason == "browser"
    assert report.evidence == f"the browser service at {path}: No such file or directory. Does tillwatch-browser.service run?"
    hello = {"t": "hello", "version": VERSION, "pid": 1}
    assert "what it sent is not JSON" in await answer(path, b"\0\0\0\5hello")
    assert "speaks version 2 of the protocol, not 1" in await answer(path, frames.encode(hello | {"version": 2}))
    assert "does not say whose turn" in await answer(path, frames.encode(hello) + frames.encode({"t": "begun"}))
    assert "it ended" in await answer(path, frames.encode(hello))
    assert "it sent" in await answer(path, frames.encode(hello) + frames.encode({"t": "turn"}) + frames.encode({"t": "cancel"}))


SERVER = """
import asyncio, sys, tempfile
from pathlib import Path
sys.path[:0] = {path!r}
tempfile.tempdir = {base!r}
from worker_ward import PATIENT, STANDIN
from probes.checkout.keeper import Keeper
from probes.checkout.server import serve
from probes.checkout.settings import BrowserSettings
settings = BrowserSettings().model_copy(update={{"min_free_memory": 0}})
asyncio.run(serve(Path({socket!r}), settings, ready=lambda: print("ready", flush=True), keeper=Keeper(settings, patience=PATIENT, command=STANDIN)))
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
async def test_a_real_browser_service_runs_flows_and_stops_clean(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.checkout.link._CONNECTING", 20.0)
    with ward() as one:
        code = SERVER.format(path=sys.path, base=str(one.base), socket=str(path))
        server = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
        assert server.stdout
        assert await server.stdout.readline() == b"ready\n"
        async with hostile_shop() as url:
            flow = 'async with step("open"):\n    await page.goto(job.url)\n    assert await ask() == "no"'

            async def refuse() -> str:
                return "no"
            report = await link(path).run(job(flow, url=url), lambda _: None, refuse)
            assert (report.reason, [step.name for step in report.steps]) == ("", ["open"]), report
        began = asyncio.Event()
        long = asyncio.create_task(link(path).run(
            job('async with step("long"):\n    await asyncio.sleep(60)', 60), lambda _: began.set(), allow))
        await asyncio.wait_for(began.wait(), 20)
        server.send_signal(signal.SIGTERM)
        stopping = Stopwatch()
        report = await long
        assert (report.reason, 'step "long": the browser service at' in report.evidence) == ("browser", True), report
        assert await server.wait() == 0
        with stopping:
            assert stopping() < 4
        assert not path.exists()  # noqa: ASYNC240
        await one.nothing_left()
