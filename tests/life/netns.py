"""Two hosts and a cable, made of network namespaces: the watcher's and everything outside. Needs root; tests skip where there is none."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

WATCHER, OUTSIDE, ELSEWHERE = "10.77.47.1", "10.77.47.2", "10.77.47.3"      # the last two are both at the far end
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cable:
    """The names of the two namespaces."""

    watcher: str
    outside: str

    def inside(self, *words: str) -> str:
        """What a program of the watcher's host prints."""
        done = subprocess.run(["ip", "netns", "exec", self.watcher, *words], check=True, capture_output=True, text=True, timeout=20, cwd=ROOT)
        return done.stdout

    def plug(self, state: str) -> None:
        """"down": the cable is pulled out at the watcher's provider; "up": it is back."""
        run("ip", "-n", self.outside, "link", "set", "outer", state)

    def start(self, where: str, *words: str, log: Path, **how: object) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen(["ip", "netns", "exec", where, sys.executable, *words], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT,
                                    env=os.environ | {"PYTHONUNBUFFERED": "1"}, **how)  # type: ignore[call-overload]


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=10)


@contextmanager
def cable() -> Iterator[Cable]:
    found = Cable(f"till-in-{os.getpid()}", f"till-out-{os.getpid()}")
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("NOT TESTED: network namespaces need root and iproute2")
    try:
        run("ip", "netns", "add", found.watcher)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOT TESTED: no network namespaces here: {error.stderr.decode().strip()}")
    try:
        run("ip", "netns", "add", found.outside)
        run("ip", "link", "add", "inner", "netns", found.watcher, "type", "veth", "peer", "name", "outer", "netns", found.outside)
        for name, end, address in ((found.watcher, "inner", WATCHER), (found.outside, "outer", OUTSIDE)):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", end)
            run("ip", "-n", name, "link", "set", end, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", found.outside, "address", "add", f"{ELSEWHERE}/24", "dev", "outer")
        yield found
    finally:
        for name in (found.watcher, found.outside):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
