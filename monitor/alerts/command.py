"""A program of one's own: it is handed the page as JSON, and its exit code says whether the page is delivered.

It is started without a shell, in a process group of its own that is ended with it, and without our environment: the
secrets of the configuration stand there.
"""

import asyncio
import os
import signal
import stat
from asyncio.subprocess import STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from aiohttp import ClientSession
from pydantic import AfterValidator, Field

from monitor.alerts.delivery import TIMEOUT, Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.document import body, kind
from probes.fields import Several
from probes.scrub import scrub

OUTPUT_LIMIT = 64_000  # bytes of output that are kept, the newest
GRACE = 1.0  # s for a killed program to be gone
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("HOME", "LANG", "TZ")  # of our own environment
# EX_USAGE, EX_DATAERR, EX_NOPERM, EX_CONFIG of sysexits.h: the same again would end the same. Everything else may pass,
# EX_TEMPFAIL (75) by its very name.
PERMANENT = frozenset({64, 65, 77, 78})


def _program(command: tuple[str, ...]) -> tuple[str, ...]:
    if not Path(command[0]).is_absolute():
        raise ValueError('the program is given with its whole path, such as "/usr/local/bin/page-me"; its arguments follow one by one')
    if any("\0" in word for word in command):
        raise ValueError("no argument can hold a NUL")
    return command


class CommandSettings(ReceiverSettings):
    """kind = "command" """

    hears_acks: ClassVar[bool] = True

    kind: Literal["command"]
    command: Annotated[Several[str], Field(min_length=1), AfterValidator(_program)] = Field(
        description="the program with its whole path, and its arguments one by one; no shell reads them"
    )


async def send(settings: CommandSettings, _session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Run the program. Exit code 0 is delivered."""
    name = Path(settings.command[0]).name
    open_to = _open_to_all(Path(settings.command[0]))
    if open_to:
        return DeliveryError(f"{name} is not run: everybody on this host can write to {open_to}", code="unsafe")
    try:
        async with asyncio.timeout(TIMEOUT - 1):
            code, output = await _run(settings.command, body(message), _environment(message))
    except TimeoutError:
        return DeliveryError(f"{name} did not end within {TIMEOUT - 1:.0f} s", code="timeout")
    except OSError as error:
        return DeliveryError(f"{name} could not be started: {error.strerror or type(error).__name__}", code="start")
    return _result(name, code, output)


class _Output(asyncio.Protocol):
    """The newest of what a program says. All of it is read, so that the program is never held up."""

    def __init__(self) -> None:
        self.kept, self.ended = bytearray(), asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.kept += data
        del self.kept[:-OUTPUT_LIMIT]

    def connection_lost(self, _error: Exception | None) -> None:
        self.ended.set()


async def _run(command: tuple[str, ...], document: bytes, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """Exit code and newest output of the program. What it left running in its group is ended with it."""
    # Pipes of our own: asyncio's would be waited for until the last program that has inherited them is gone.
    ours, theirs = os.pipe()
    transport, output = await asyncio.get_running_loop().connect_read_pipe(_Output, os.fdopen(ours, "rb", buffering=0))
    try:
        with os.fdopen(theirs, "wb") as end, os.fdopen(os.memfd_create("page"), "w+b") as page:
            page.write(document)
            page.seek(0)
            process = await asyncio.create_subprocess_exec(
                *command, stdin=page, stdout=end, stderr=STDOUT, env=environment, cwd="/", start_new_session=True
            )
        try:
            code = await process.wait()
        finally:
            await _end(process, output)
        return code, bytes(output.kept)
    finally:
        transport.close()


async def _end(process: Process, output: _Output) -> None:
    """End what is left of the group; then, but for a program that has left it, nobody holds the output any more."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await process.wait()
            await output.ended.wait()


def _result(name: str, code: int, output: bytes) -> Delivered | DeliveryError:
    lines = output.decode("utf-8", errors="replace").strip().splitlines()
    said = scrub(lines[-1], limit=200) if lines else ""
    if code == 0:
        return Delivered(said)
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    return DeliveryError(f"{name} {ended}{f': {said}' if said else ''}", permanent=code in PERMANENT, code=f"exit {code}")


def _environment(message: Message) -> dict[str, str]:
    """A short one: where programs are found, and the three things that save a shell script the reading of JSON."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"PATH": PATH, "TILLWATCH_ID": message.id, "TILLWATCH_TYPE": kind(message), "TILLWATCH_TITLE": message.page.title}


def _open_to_all(program: Path) -> Path | None:
    """What everybody could change to make us run something else: the program, or a folder on the way to it."""
    with suppress(OSError):  # what is not there cannot be started either, and is told then
        real = program.resolve(strict=True)
        for path in (real, *real.parents, *program.parents):
            mode = path.stat().st_mode
            if mode & stat.S_IWOTH and not (path.is_dir() and mode & stat.S_ISVTX):
                return path
    return None
