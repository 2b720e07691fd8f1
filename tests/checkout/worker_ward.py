"""A keeper under observation: what it starts is found without its help, and so is what it leaves behind."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import Stopwatch, until

from probes.checkout.job import Ask, Job, Launch, Report
from probes.checkout.keeper import Keeper, Patience
from probes.checkout.processes import look
from probes.checkout.settings import BrowserSettings

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
HERE = Path(__file__).parent
ROOT = os.geteuid() == 0                                     # Chromium's sandbox cannot be had as root
LAUNCH = Launch(no_sandbox=ROOT)
WARM_UP = 40.0                                               # s of a run that may have to start the browser first, on a busy machine
PATIENT = Patience(start=WARM_UP)                            # what a worker does after the deadline has the product's own time
STANDIN = (sys.executable, str(HERE / "standin_worker.py"))


def bad(mode: str) -> tuple[str, ...]:
    return sys.executable, str(HERE / "bad_worker.py"), mode


def descriptors() -> int:
    """How many this process holds open."""
    return len([*Path("/proc/self/fd").iterdir()])


async def allow() -> str:
    return ""


def job(source: str = "", timeout: float = WARM_UP, url: str = "http://127.0.0.1", **more: Any) -> Job:
    return Job(run="r1", probe="checkout", url=url, timeout=timeout, source=source, **{"launch": LAUNCH, **more})


@dataclass
class Ward:
    """`base` is the folder for temporary files of everything that `keeper` starts."""

    keeper: Keeper
    base: Path
    told: list[Mapping[str, Any]] = field(default_factory=list)
    on_step: Callable[[str], None] = lambda _: None
    seen: dict[int, str] = field(default_factory=dict)

    async def run(self, job: Job, ask: Ask = allow) -> Report:
        return await self.keeper.run(job, self._hear, ask)

    def _hear(self, message: Mapping[str, Any]) -> None:
        self.told.append(message)
        if message["t"] == "step" and message["state"] == "begun":
            self.on_step(message["name"])

    def processes(self) -> dict[int, str]:
        """Everything alive that was started with our folder in its environment or its arguments, or was below such; also what nobody has reaped."""
        found, parents = {}, {}
        for name in os.listdir("/proc"):  # noqa: PTH208 - numbers are wanted
            if name.isdigit():
                with suppress(OSError):
                    stat = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
                    command = Path(f"/proc/{name}/cmdline").read_bytes()
                    parents[int(name)] = int(stat[1]), command.replace(b"\0", b" ").decode(errors="replace")
                    if str(self.base).encode() in command + Path(f"/proc/{name}/environ").read_bytes():
                        found[int(name)] = parents[int(name)][1]
        while more := {pid: text for pid, (parent, text) in parents.items() if parent in found and pid not in found}:
            found |= more
        found |= {pid: parents[pid][1] for pid in self.seen.keys() & parents.keys() if parents[pid][1] in {"", self.seen[pid]}}
        self.seen |= found
        return found

    def find(self, who: str) -> list[int]:
        """browser, driver, worker, warden, renderer or all."""
        found = self.processes()
        both = {pid for pid, text in found.items() if "worker.py" in text or "checkout.worker" in text}
        pythons = sorted(both, key=lambda pid: _parent(pid) in both)           # the warden is nobody's child among them
        wanted: dict[str, Callable[[int, str], bool]] = {
            "browser": lambda _, text: "--remote-debugging-pipe" in text and "--type=" not in text and not text.startswith("/bin/sh"),
            "renderer": lambda _, text: "--type=renderer" in text,
            "driver": lambda _, text: "run-driver" in text,
            "warden": lambda pid, _: pid == pythons[0],
            "worker": lambda pid, _: pid == pythons[1],
            "all": lambda _, __: True,
        }
        pids = [pid for pid, text in found.items() if wanted[who](pid, text)]
        # A child of the browser has its arguments until it has its own.
        return [pid for pid in pids if _parent(pid) not in pids] if who == "browser" else pids

    def strike(self, who: str, number: int) -> None:
        pids = self.find(who)
        assert pids, f"there is no {who}"
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:                       # each stops when it is its turn on the processor, and not before
            until(lambda: all((now := look(pid)) is None or now.state in "TtZXx" for pid in pids), 20, f"standing still of the {who}")

    def leftovers(self) -> list[str]:
        return [*self.processes().values(), *(str(path) for path in self.base.iterdir())]

    async def nothing_left(self, seconds: float = 5.0) -> None:
        with Stopwatch() as watch:
            while left := self.leftovers():
                assert watch() <= seconds, left
                await asyncio.sleep(0.05)
        self.seen.clear()


def _parent(pid: int) -> int:
    now = look(pid)
    return now.parent if now else 0


@contextmanager
def ward(command: Sequence[str] = STANDIN, *, patience: Patience = PATIENT, **settings: Any) -> Iterator[Ward]:
    """Settings as they are kept: durations in s, sizes in bytes."""
    base, before = Path(tempfile.mkdtemp(prefix="ward-", dir="/tmp")), tempfile.tempdir
    tempfile.tempdir = str(base)
    try:
        kept = BrowserSettings(no_sandbox=ROOT).model_copy(update={"min_free_memory": 0, **settings})
        yield Ward(Keeper(kept, patience=patience, command=command), base)
    finally:
        tempfile.tempdir = before
        shutil.rmtree(base, ignore_errors=True)
