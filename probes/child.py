"""A program of the owner's own: started without a shell, in a process group of its own that is ended with it, without our environment.

The secrets of the configuration stand in our environment.
"""

import asyncio
import os
import signal
import stat
from asyncio.subprocess import STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

OUTPUT_LIMIT = 64_000      # bytes of output that are kept, the newest
GRACE = 1.0                # s for a killed program to be gone
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("HOME", "LANG", "TZ")      # of our own environment


def program(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command, if it can be run. Raises ValueError, in words for whoever wrote it."""
    if not Path(command[0]).is_absolute():
        raise ValueError('the program is given with its whole path, such as "/usr/local/bin/page-me"; its arguments follow one by one')
    if any("\0" in word for word in command):
        raise ValueError("no argument can hold a NUL")
    return command


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """A short one: where programs are found, a few things of our own environment, and `more`."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PATH": PATH, **more}


def open_to_all(path: Path) -> Path | None:
    """What everybody on this host could change to make us run something else: the program, or a folder on the way to it."""
    with suppress(OSError):        # what is not there cannot be started either, and is told then
        real = path.resolve(strict=True)
        for one in (real, *real.parents, *path.parents):
            mode = one.stat().st_mode
            if mode & stat.S_IWOTH and not (one.is_dir() and mode & stat.S_ISVTX):
                return one
    return None


async def run(command: Sequence[str], given: bytes, surroundings: Mapping[str, str]) -> tuple[int, bytes]:
    """Exit code (negative: ended by that signal) and newest output of a program that reads `given`.

    What it left running in its group is ended with it, also when this is cancelled. Raises OSError when it cannot be started.
    """
    # Pipes of our own: asyncio's would be waited for until the last program that has inherited them is gone.
    ours, theirs = os.pipe()
    transport, output = await asyncio.get_running_loop().connect_read_pipe(_Output, os.fdopen(ours, "rb", buffering=0))
    try:
        with os.fdopen(theirs, "wb") as end, os.fdopen(os.memfd_create("given"), "w+b") as start:
            start.write(given)
            start.seek(0)
            starting = asyncio.ensure_future(asyncio.create_subprocess_exec(
                *command, stdin=start, stdout=end, stderr=STDOUT, env=surroundings, cwd="/", start_new_session=True))
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:                 # asyncio would end the program alone, and not what it has started by then
                with suppress(OSError):
                    await _end(await starting, output)
                raise
        try:
            code = await process.wait()
        finally:
            await _end(process, output)
        return code, bytes(output.kept)
    finally:
        transport.close()


class _Output(asyncio.Protocol):
    """The newest of what a program says. All of it is read, so that the program is never held up."""

    def __init__(self) -> None:
        self.kept, self.ended = bytearray(), asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.kept += data
        del self.kept[:-OUTPUT_LIMIT]

    def connection_lost(self, _error: Exception | None) -> None:
        self.ended.set()


async def _end(process: Process, output: _Output) -> None:
    """End what is left of the group; then, but for a program that has left it, nobody holds the output any more."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await process.wait()
            await output.ended.wait()
