"""The proof with the real logrotate: a program that logs, one that follows it and is killed, and a count of what was read.

In a test a short one is played, by hand a long one: bench/logs/rotations.py.
"""

import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from processes import until

HERE = Path(__file__).parent
SETTLED = 60.0              # s within which all must have been read
FULL = 4096                 # bytes, more than those by which a log is known again: one that is rotated sooner nobody could follow

CONFIG = """
{log} {{
    rotate 500
    compress
    delaycompress
    {how}
}}
"""
HOW = {"create": "create 0644\n    postrotate\n        kill -USR1 {pid}\n    endscript", "copytruncate": "copytruncate"}


@dataclass(slots=True)
class Outcome:
    """What was written, and what was read of it."""

    mode: str
    written: int = 0
    read: int = 0
    rotations: int = 0
    kills: int = 0
    doubled: int = 0
    lost: int = 0
    destroyed: int = 0                              # lines that logrotate itself threw away: between copy and truncation
    lost_beyond: list[int] = field(default_factory=list)      # lost, though not destroyed: the first ones
    out_of_order: int = 0
    torn: int = 0
    gaps: int = 0
    counter: int = 0                                # the counter that is committed with the checkpoint
    seconds: float = 0.0


class Proof:
    """One run of it."""

    def __init__(self, folder: Path, mode: str, *, rate: float, seed: int = 1, pattern: str = "app.log") -> None:
        self.outcome = Outcome(mode)
        self._log, self._database, self._pattern = folder / "app.log", folder / "read.db", folder / pattern
        self._random = random.Random(seed)
        self._destroyed: set[int] = set()
        self._writer = subprocess.Popen([sys.executable, str(HERE / "tail_writer.py"), str(self._log), str(rate)], stdout=subprocess.PIPE, text=True)
        until(self._log.exists, SETTLED, "the first line")
        config, self._state = folder / "rotate.conf", folder / "rotate.state"
        config.write_text(CONFIG.format(log=self._log, how=HOW[mode].format(pid=self._writer.pid)))
        config.chmod(0o644)
        self._rotate = ["/usr/sbin/logrotate", "-f", "-s", str(self._state), str(config)]
        self._standin = self._begin()
        until(self._counted, SETTLED, "the first read")      # what was rotated before it is none of its business

    def play(self, rotations: int, kills: int, pause: float, say: Callable[[Outcome], None] = lambda _outcome: None) -> Outcome:
        """Rotate so often, every `pause` s, and kill so often in between, at random."""
        begun = time.monotonic()
        steps = [(number * pause, "rotate") for number in range(1, rotations + 1)]
        steps += [(self._random.uniform(0.1, rotations * pause), "kill") for _ in range(kills)]
        try:
            for at, step in sorted(steps):
                time.sleep(max(0.0, begun + at - time.monotonic()))
                self._rotated() if step == "rotate" else self._killed()
                say(self.outcome)
            time.sleep(pause)
            self._settle()
        finally:
            for process in (self._writer, self._standin):
                process.kill()
                process.communicate()
        self._judge()
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _begin(self) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, str(HERE / "tail_standin.py"), str(self._pattern), str(self._database), "0.05"], text=True)

    def _rotated(self) -> None:
        # Rotated again before its writer has got to it, a log would be compressed under the writer's hands.
        until(lambda: self._log.stat().st_size > FULL, SETTLED, "the writer's going on")
        subprocess.run(self._rotate, check=True, timeout=SETTLED)
        self.outcome.rotations += 1
        if self.outcome.mode == "copytruncate":
            copied = _numbers(Path(f"{self._log}.1").read_bytes())
            after = until(lambda: _numbers(self._log.read_bytes()[:FULL]), SETTLED, "the writer's going on")
            self._destroyed |= set(range(copied[-1] + 1, after[0]))

    def _killed(self) -> None:
        self._standin.kill()
        self._standin.wait()
        self.outcome.kills += 1
        self._standin = self._begin()

    def _settle(self) -> None:
        self._writer.terminate()
        self.outcome.written = int(self._writer.communicate(timeout=SETTLED)[0])
        end = time.monotonic() + SETTLED
        while time.monotonic() < end and (self._counted() < self.outcome.written - len(self._destroyed) or self._unread()):
            time.sleep(0.2)
        if self.outcome.mode == "copytruncate":
            time.sleep(1.5)                             # what is read twice shows itself

    def _counted(self) -> int:
        if not self._database.exists():
            return 0
        with closing(sqlite3.connect(self._database, timeout=20)) as db:
            try:
                row = db.execute("SELECT lines FROM checkpoint").fetchone()
            except sqlite3.OperationalError:            # its tables are still being made
                return 0
        return int(row[0]) if row else 0

    def _runs(self) -> list[tuple[int, int]]:
        """What was read, in the order in which it came."""
        with closing(sqlite3.connect(self._database, timeout=20)) as db:
            return db.execute("SELECT first, last FROM runs ORDER BY rowid").fetchall()

    def _unread(self) -> set[int]:
        """The lines that were written, but neither read nor destroyed."""
        written = set(range(1, self.outcome.written + 1))
        return written.difference(self._destroyed, *(range(first, last + 1) for first, last in self._runs()))

    def _judge(self) -> None:
        runs = self._runs()
        with closing(sqlite3.connect(self._database, timeout=20)) as db:
            counter, torn, gaps = db.execute("SELECT lines, torn, gaps FROM checkpoint").fetchone()
        seen = Counter(number for first, last in runs for number in range(first, last + 1))
        lost = set(range(1, self.outcome.written + 1)) - set(seen)
        found = self.outcome
        found.read, found.counter, found.torn, found.gaps = seen.total(), counter, torn, gaps
        found.doubled = sum(number - 1 for number in seen.values())
        found.lost, found.destroyed, found.lost_beyond = len(lost), len(self._destroyed), sorted(self._unread())[:20]
        found.out_of_order = sum(later[0] <= earlier[1] for earlier, later in pairwise(runs))


def _numbers(data: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"^(\d{10}) the writer wrote this line$", data, re.MULTILINE)]
