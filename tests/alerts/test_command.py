"""A program as a receiver: what it is handed, what its end means, and that nothing of it stays."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import processes
import pytest
import uvloop
from desk import make_incident, make_member, make_message, patience_of, settings, until
from processes import Stopwatch, gone

from monitor.alerts import command
from monitor.alerts.delivery import TIMEOUT, Delivered, DeliveryError, Message
from monitor.alerts.dispatch import attempt
from monitor.alerts.post import open_session
from probes import child

Result = Delivered | DeliveryError


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Any]:
    def write(script: str, *arguments: str, mode: int = 0o700) -> Any:
        path = tmp_path / "page-me"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        return settings("command", command=[str(path), *arguments])

    return write


async def run(own: Any, message: Message | None = None) -> Result:
    async with open_session() as session:
        return await attempt(own, session, message or make_message())


async def test_it_is_handed_the_page_and_its_arguments(program: Callable[..., Any], tmp_path: Path) -> None:
    script = f'cat > {tmp_path}/page; printf "%s|" "$@" > {tmp_path}/arguments; pwd > {tmp_path}/where; echo taken'
    own = program(script, "a b", "$HOME", "`id`; *", "")
    assert await run(own) == Delivered("taken")
    page = json.loads((tmp_path / "page").read_text())
    assert page["type"] == "incident.firing"
    assert page["data"]["sentence"].startswith("Customers cannot use *pay* since")
    assert (tmp_path / "arguments").read_text() == "a b|$HOME|`id`; *||"  # no shell has read them
    assert (tmp_path / "where").read_text() == "/\n"


async def test_its_environment_is_short_and_holds_no_secret(program: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PD_KEY", "CREDENTIALS_DIRECTORY", "TILLWATCH_CI_TOKEN", "NOTIFY_SOCKET", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "very-secret-value")
    monkeypatch.setenv("HOME", "/var/lib/tillwatch")
    await run(program(f"env > {tmp_path}/env"), make_message(id_="01m"))
    environment = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    own = {name for name in environment if name not in {"PWD", "OLDPWD", "SHLVL", "_"}}  # the shell's
    assert own <= {"HOME", "LANG", "TZ", "PATH", "TILLWATCH_ID", "TILLWATCH_TYPE", "TILLWATCH_TITLE"}
    assert (environment["TILLWATCH_ID"], environment["TILLWATCH_TYPE"], environment["HOME"]) == ("01m", "incident.firing", "/var/lib/tillwatch")
    assert environment["TILLWATCH_TITLE"].startswith("[page] example-shop: Customers")
    assert "very-secret-value" not in environment.values()


@pytest.mark.parametrize(
    ("script", "permanent", "code", "says"),
    [
        ("exit 75", False, "exit 75", "page-me ended with 75"),
        ("echo the modem is busy >&2; exit 1", False, "exit 1", "page-me ended with 1: the modem is busy"),
        ("echo one; echo two; exit 64", True, "exit 64", "page-me ended with 64: two"),
        ("exit 65", True, "exit 65", ""),
        ("exit 77", True, "exit 77", ""),
        ("exit 78", True, "exit 78", ""),
        ("exit 255", False, "exit 255", ""),
        ("kill -SEGV $$", False, "exit -11", "was ended by signal 11"),
        ("kill -KILL $$", False, "exit -9", "was ended by signal 9"),
    ],
)
async def test_its_end_says_whether_it_is_worth_trying_again(
    program: Callable[..., Any], script: str, permanent: bool, code: str, says: str
) -> None:
    result = await run(program(script))
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (permanent, code)
    assert says in result.reason


async def test_what_it_says_is_scrubbed(program: Callable[..., Any]) -> None:
    result = await run(program(r"printf 'token=abcdef0123456789 \033[31mred\033[0m ada@shop.example'; exit 1"))
    assert isinstance(result, DeliveryError)
    for hidden in ("abcdef0123456789", "\x1b", "ada@shop.example"):
        assert hidden not in result.reason


async def test_one_that_hangs_is_ended_with_all_that_it_started(
    program: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TIMEOUT <= 20
    time_is_up = patience_of(command, TIMEOUT - 1, monkeypatch)
    own = program(f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; sleep 600")
    running = asyncio.create_task(run(own))
    await _stands(tmp_path / "self")
    with Stopwatch() as took:
        time_is_up()
        assert await running == DeliveryError("page-me did not end within 14 s", code="timeout")
        assert took() < 2
    for name in ("child", "self"):
        await until(lambda name=name: gone(int((tmp_path / name).read_text())))  # type: ignore[misc]


async def test_what_it_leaves_running_is_ended_too(program: Callable[..., Any], tmp_path: Path) -> None:
    with Stopwatch() as took:
        assert await run(program(f"sleep 600 & echo $! > {tmp_path}/child; echo on my way")) == Delivered("on my way")
        assert _age(tmp_path / "child") - took.kept < 3
    await until(lambda: gone(int((tmp_path / "child").read_text())))


async def test_a_program_that_leaves_its_group_is_not_waited_for(program: Callable[..., Any], tmp_path: Path) -> None:
    """It holds the other end of the output. That it is delivered has been said all the same."""
    stands = f"while [ ! -s {tmp_path}/child ]; do sleep 0.05; done"  # before that it would be ended with the group
    own = program(f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 600' & {stands}; echo taken")
    try:
        with Stopwatch() as took:
            assert await run(own) == Delivered("taken")
            assert _age(tmp_path / "child") - took.kept < 5
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


async def test_a_caller_who_gives_up_leaves_nothing_behind(program: Callable[..., Any], tmp_path: Path) -> None:
    task = asyncio.create_task(run(program(f"echo $$ > {tmp_path}/self; exec sleep 600")))
    await _stands(tmp_path / "self")
    task.cancel()
    await asyncio.wait({task})
    await until(lambda: gone(int((tmp_path / "self").read_text())))


async def test_a_hundred_megabytes_of_output_are_read_and_forgotten(program: Callable[..., Any]) -> None:
    before, lags, sizes = _resident(), [], []

    async def beat(took: Stopwatch) -> None:
        while True:
            took.again()
            await asyncio.sleep(0.005)
            lags.append(took() - 0.005)
            sizes.append(_resident())

    with Stopwatch() as took:
        pulse = asyncio.create_task(beat(took))
        result = await run(program("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end"))
        pulse.cancel()
    assert result == Delivered("the end")
    assert max(sizes) - before < 20_000_000
    assert sorted(lags)[len(lags) * 9 // 10] < 0.05


async def test_a_page_that_nobody_reads_is_no_fault(program: Callable[..., Any]) -> None:
    members = tuple(make_member(f"p{n}", evidence="x" * 300) for n in range(50))
    assert await run(program("exec 0<&-; exit 0"), make_message(make_incident(members=members))) == Delivered("")


@pytest.mark.parametrize("script", ["no interpreter", "not executable", "a folder"])
async def test_what_cannot_be_started_is_told_and_tried_again(tmp_path: Path, script: str) -> None:
    path = tmp_path / "page-me"
    path.mkdir() if script == "a folder" else path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o600 if script == "not executable" else 0o700)
    result = await run(settings("command", command=[str(path)]))
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "start")
    assert result.reason.startswith("page-me could not be started: ")


async def test_what_everybody_can_write_is_not_run(program: Callable[..., Any], tmp_path: Path) -> None:
    own = program(f"touch {tmp_path}/was-run", mode=0o702)
    assert await run(own) == DeliveryError(f"page-me is not run: everybody on this host can write to {tmp_path}/page-me", code="unsafe")
    (tmp_path / "page-me").chmod(0o700)
    (tmp_path / "link").symlink_to("/bin/true")
    linked = settings("command", command=[f"{tmp_path}/link"])
    os.chmod(tmp_path, 0o777)  # noqa: PTH101
    for refused, name in ((own, "page-me"), (linked, "link")):
        assert await run(refused) == DeliveryError(f"{name} is not run: everybody on this host can write to {tmp_path}", code="unsafe")
    assert not (tmp_path / "was-run").exists()
    os.chmod(tmp_path, 0o1777)  # noqa: PTH101 - as /tmp is: nobody can replace what is another's
    assert await run(linked) == Delivered("")


def test_it_is_the_same_under_the_loop_of_the_daemon(program: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = program("cat > /dev/null; sleep 600 & echo taken")
    assert uvloop.run(run(own)) == Delivered("taken")
    time_is_up = patience_of(command, TIMEOUT - 1, monkeypatch)
    own = program(f"echo $$ > {tmp_path}/self; exec sleep 600")

    async def hangs() -> Result:
        running = asyncio.create_task(run(own))
        await _stands(tmp_path / "self")
        time_is_up()
        return await running

    assert uvloop.run(hangs()) == DeliveryError("page-me did not end within 14 s", code="timeout")
    processes.until(lambda: gone(int((tmp_path / "self").read_text())), 15, "the end of the program")


async def test_no_descriptor_is_left_open(program: Callable[..., Any], tmp_path: Path) -> None:
    await run(program("exit 0"))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for own in (program("exit 0"), settings("command", command=[f"{tmp_path}/nobody"])):
        for _ in range(5):
            await run(own)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208


async def _stands(path: Path) -> None:
    """Wait until the program has written this, and asyncio has told who started it: it may run before they know."""
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    for _ in range(50):
        await asyncio.sleep(0)


def _age(path: Path) -> float:
    """Seconds since it was written."""
    return time.time() - path.stat().st_mtime


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("turns", range(12))
async def test_whoever_gives_up_while_it_starts_leaves_nothing_either(tmp_path: Path, turns: int) -> None:
    """Also what the program had started by the time that it was known to run."""
    mark = f"60.0{turns:02}{os.getpid()}"
    script = tmp_path / "start"
    script.write_text(f"#!/bin/sh\nsleep {mark} &\nsleep {mark}\n")
    script.chmod(0o700)
    running = asyncio.ensure_future(child.run([str(script)], b"", {"PATH": os.environ["PATH"]}))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.1)                    # for what would have been started by now
    assert started_with(mark) == []


def started_with(argument: str) -> list[str]:
    """The processes that have this among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):                 # one that ended meanwhile
            found += [path.parent.name] * (argument.encode() in path.read_bytes())
    return found
