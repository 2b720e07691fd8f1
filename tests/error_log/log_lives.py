"""The daemon is killed again and again while a shop logs and the real logrotate turns its file over; what the store says at the end."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from processes import free_port, until

from monitor.store import StoreError, read_only, samples

LEVELS = {"ERROR": "events/error", "CRITICAL": "events/critical", "WARNING": "events/warning"}
CONFIG = """\
[shop]
name = "till"
url = "http://127.0.0.1:{port}"
[web]
listen = "127.0.0.1:{port}"
[[probe]]
name = "log"
kind = "error_log"
interval = "250ms"
timeout = "250ms"
paths = ["logs/*.log"]
begin = "beginning"
"""
ROTATE = """\
{folder}/logs/shop.log {{
    su root root
    rotate 1000
    {how}
    missingok
}}
"""


FULL = 4096                 # bytes, more than those by which a log is known again: one that is rotated sooner nobody could follow
PATIENCE = 60.0             # s for what another process does in its own time
RUNS = 8                    # after the last line was counted: what was counted twice shows itself


@dataclass(frozen=True, slots=True)
class Ended:
    """What was written, and what the store has counted, by level and all together. `destroyed`: lines thrown away by logrotate itself."""

    written: dict[str, int]
    counted: dict[str, int]
    kills: int
    rotations: int
    destroyed: int


def counted(state: Path) -> dict[str, int]:
    """All counts of all samples together, without signatures."""
    total: Counter[str] = Counter()
    with suppress(StoreError):                       # the daemon is just making it
        for stored in read_only(state, lambda connection: samples.after(connection, 0, 10**9)):
            total.update({name: count for name, count in stored.sample.counts.items() if not name.startswith("signature/")})
    return dict(total)


def _runs(state: Path) -> int:
    """How many samples are stored."""
    return len(read_only(state, lambda connection: samples.after(connection, 0, 10**9)))


class _Log:
    """The shop's log, which logrotate turns over."""

    def __init__(self, folder: Path, writer: int, *, copied: bool) -> None:
        self._path, self._folder, self._writer, self._copied = folder / "logs" / "shop.log", folder, writer, copied
        self.destroyed = 0

    def rotate(self) -> None:
        """Once, as soon as the writer has got on since the last time: a log is turned over when there is something in it."""
        until(self._being_written, PATIENCE, "the writer's going on")
        subprocess.run(["logrotate", "-f", "-s", self._folder / "rotate.state", self._folder / "rotate.conf"], check=True, capture_output=True)
        if self._copied:                            # what was written between the copy and the truncation is in neither
            until(lambda: self._numbers(self._path), PATIENCE, "the writer's going on")
            last = self._numbers(Path(f"{self._path}.1"))[-1]
            self.destroyed += self._numbers(self._path)[0] - last - 1

    def _being_written(self) -> bool:
        """Whether the writer writes to the file that stands there, and it is long enough. Who still wrote to an older one could lose lines in it."""
        with suppress(FileNotFoundError):
            found = self._path.stat()
            return found.st_size > FULL and any(os.path.samestat(found, one.stat()) for one in Path(f"/proc/{self._writer}/fd").iterdir())
        return False

    @staticmethod
    def _numbers(path: Path) -> list[int]:
        return [int(number) for number in re.findall(rb"^\S+ \S+ \S+ \[shop\.orders\] order (\d+) at .*\n", path.read_bytes(), re.MULTILINE)]


def live(folder: Path, *, how: str, kills: int, rotations: int, rate: float, seed: int = 1, told: Callable[[str], None] = print) -> Ended:
    """Begin, kill and rotate; `how` is what logrotate is told ("create", "copytruncate", "create\\ncompress\\ndelaycompress")."""
    place = random.Random(seed)
    (folder / "logs").mkdir()
    (folder / "config.toml").write_text(CONFIG.format(port=free_port()))
    (folder / "rotate.conf").write_text(ROTATE.format(folder=folder, how=how))
    (folder / "rotate.conf").chmod(0o644)
    writer = subprocess.Popen([sys.executable, str(Path(__file__).with_name("log_writer.py")), str(folder / "logs" / "shop.log"), str(rate)],
                              stdout=subprocess.PIPE, text=True)
    log, store = _Log(folder, writer.pid, copied="copytruncate" in how), folder / "state" / "tillwatch.sqlite3"
    done = turned = 0
    with (folder / "daemon.log").open("wb") as out:
        command = [sys.executable, "-m", "monitor", "-c", str(folder / "config.toml"), "run"]
        daemon = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            until(lambda: counted(store).get("lines"), PATIENCE, "the first run that reads")        # what was rotated before is not looked for
            while done < kills or turned < rotations:
                if turned < rotations:
                    log.rotate()
                    turned += 1
                time.sleep(place.uniform(0.05, 0.4))
                if done < kills and place.random() < max(kills / max(rotations, 1), 0.2):
                    time.sleep(place.uniform(0.5, 1.2))      # some die while they begin, most in the middle of their work
                    daemon.kill()
                    daemon.wait()
                    done += 1
                    told(f"{done} kills, {turned} rotations")
                    daemon = subprocess.Popen(command, stdout=out, stderr=out)
            writer.send_signal(signal.SIGTERM)
            written = json.loads(writer.communicate(timeout=PATIENCE)[0])
            least = sum(written.values()) - log.destroyed
            until(lambda: counted(store).get("lines", 0) >= least, PATIENCE, f"the counting of {least} lines")
            last = _runs(store) + RUNS
            until(lambda: _runs(store) >= last, PATIENCE, "the last runs")
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE) == 0
        finally:
            for process in (writer, daemon):
                if process.poll() is None:
                    process.kill()
                    process.wait()
    return Ended(written, counted(store), done, turned, log.destroyed)
