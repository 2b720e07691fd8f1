"""The daemon is killed again and again while a shop logs and the real logrotate turns its file over; what the store says at the end."""

import json
import random
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


@dataclass(frozen=True, slots=True)
class Ended:
    """What was written, and what the store has counted, by level and all together."""

    written: dict[str, int]
    counted: dict[str, int]
    kills: int
    rotations: int


def counted(state: Path) -> dict[str, int]:
    """All counts of all samples together, without signatures."""
    total: Counter[str] = Counter()
    with suppress(StoreError):                       # the daemon is just making it
        for stored in read_only(state, lambda connection: samples.after(connection, 0, 10**9)):
            total.update({name: count for name, count in stored.sample.counts.items() if not name.startswith("signature/")})
    return dict(total)


def live(folder: Path, *, how: str, kills: int, rotations: int, rate: float, seed: int = 1, told: Callable[[str], None] = print) -> Ended:
    """Begin, kill and rotate; `how` is what logrotate is told ("create", "copytruncate", "create\\ncompress\\ndelaycompress")."""
    place = random.Random(seed)
    (folder / "logs").mkdir()
    (folder / "config.toml").write_text(CONFIG.format(port=free_port()))
    (folder / "rotate.conf").write_text(ROTATE.format(folder=folder, how=how))
    (folder / "rotate.conf").chmod(0o644)
    writer = subprocess.Popen([sys.executable, str(Path(__file__).with_name("log_writer.py")), str(folder / "logs" / "shop.log"), str(rate)],
                              stdout=subprocess.PIPE, text=True)
    done = turned = 0
    with (folder / "daemon.log").open("wb") as out:
        command = [sys.executable, "-m", "monitor", "-c", str(folder / "config.toml"), "run"]
        daemon = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            until(lambda: counted(folder / "state" / "tillwatch.sqlite3"), 20, "the first run")       # what was rotated before is not looked for
            while done < kills or turned < rotations:
                if turned < rotations:
                    subprocess.run(["logrotate", "-f", "-s", folder / "rotate.state", folder / "rotate.conf"], check=True, capture_output=True)
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
            written = json.loads(writer.communicate(timeout=30)[0])
            time.sleep(3)                                    # the last event is taken when its file has been quiet for a second
            _settled(folder / "state" / "tillwatch.sqlite3", sum(written.values()), how)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(15) == 0
        finally:
            for process in (writer, daemon):
                if process.poll() is None:
                    process.kill()
                    process.wait()
    return Ended(written, counted(folder / "state" / "tillwatch.sqlite3"), done, turned)


def _settled(store: Path, lines: int, how: str) -> None:
    if "copytruncate" in how:
        time.sleep(2)
        return
    until(lambda: counted(store).get("lines", 0) >= lines, 30, "all lines are counted")
