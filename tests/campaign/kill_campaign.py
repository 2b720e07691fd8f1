"""A daemon that is killed again and again while twenty pages of its shop come and go: play it, then let the checker look at all that is left.

Two such daemons run side by side, each with its own shop, receivers and state. The plan of each - when its pages fail, how long each life
lasts - comes from one seed. What lies between is real time, so that a seed brings back the plan and not every millisecond.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign_checker import Wrong, check, duplicates, first_probes
from campaign_record import Life, Record, recorded
from shop_script import PROBES, by_status, host, urgency

LANES = 2
STARTING, LIVING = (0.0, 0.35), (0.35, 1.5)      # s that a life lasts: one in four ends while it starts
REAL_EVERY, REAL_SECONDS = 20, (0.8, 2.2)        # every so many a real start, which takes longer to get going
REST_SECONDS = 90.0                              # after the last kill, until all is told
SHOP = "kettle"
HERE = Path(__file__).parent
KEY = "0123456789abcdef0123456789abcdef"         # as the fake PagerDuty knows it
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

CONFIG = """
[shop]
name = "{shop}"
url = "http://127.0.0.1:{shop_port}"
[web]
listen = "127.0.0.1:{web}"
[daemon]
state_dir = "{state}"
[defaults]
interval = "{interval}"
timeout = "{interval}"
recheck = "100ms"
failures = 2
of = 2
confirm = "100ms"
[[receiver]]
name = "pager"
kind = "pagerduty"
url = "http://127.0.0.1:{pager}"
routing_key = "{key}"
urgency = "ticket"
[[receiver]]
name = "phone"
kind = "webhook"
url = "http://127.0.0.1:{hook}/"
secret = "{secret}"
urgency = "ticket"
"""
PROBE = """
[[probe]]
name = "{name}"
kind = "http"
url = "http://{host}:{port}/{name}"
urgency = "{urgency}"
expect = {{ {expect} }}
headers = {{ X-Life = {{ env = "LIFE" }} }}
"""


@dataclass(frozen=True)
class Outcome:
    """How one lane went."""

    record: Record
    wrong: Sequence[Wrong]
    rest: float                # s from the last kill until all was told

    @property
    def kills(self) -> int:
        return sum(life.code == -9 for life in self.record.lives)

    def summary(self) -> dict[str, Any]:
        """Figures for people."""
        record, first, again = self.record, first_probes(self.record), duplicates(self.record)
        return {
            "kills": self.kills, "real starts": sum(life.real for life in record.lives),
            "incidents": len(record.incidents), "escalated": sum(facts["escalation"] > 0 for facts in record.incidents.values()),
            "storms": sum(facts["cause"] == "storm" for facts in record.incidents.values()),
            "flips": len(record.flips), "messages": len(record.outbox), "superseded": sum(row.state == "superseded" for row in record.outbox),
            "to the pager": len(record.pager), "to the phone": len(record.hook),
            "said again": {name: sum(counts) for name, counts in again.items()},
            "most said again at one kill": {name: max(counts, default=0) for name, counts in again.items()},
            "first probe, s: median, p99, max": [round(first[int((len(first) - 1) * share)], 2) for share in (0.5, 0.99, 1.0)] if first else [],
            "rest, s": round(self.rest, 1), "wrong": len(self.wrong),
        }


def plans(seed: int, kills: int) -> list[dict[str, Any]]:
    """How each life will be."""
    chance = random.Random(seed)
    return [_plan(chance, number, real=number % REAL_EVERY == REAL_EVERY - 1) for number in range(kills)]


def _plan(chance: random.Random, number: int, *, real: bool) -> dict[str, Any]:
    short = chance.random() < 0.25
    seconds = chance.uniform(*(STARTING if short else LIVING))
    return {"number": number, "seconds": chance.uniform(*REAL_SECONDS) if real else seconds, "real": real}


def campaign(folder: Path, seed: int, kills: int) -> list[Outcome]:
    """All lanes, side by side."""
    with ThreadPoolExecutor(LANES) as lanes:
        running = [lanes.submit(lane, folder / f"lane-{number}", LANES * seed + number, (kills + number) // LANES) for number in range(LANES)]
        return [each.result() for each in running]


def lane(folder: Path, seed: int, kills: int) -> Outcome:
    """One daemon from its first life to its last, and the judgement on it."""
    folder.mkdir(parents=True)
    with town(seed) as ports:
        config = write_config(folder, ports)
        with nursery(config, folder / "daemon.log") as lives:
            lived = [live(lives, plan) for plan in plans(seed, kills)]
            post(ports["shop"], "/recover")
            tell(lives, {"number": len(lived), "rest": True})
            rested = rest(folder / "state" / "tillwatch.sqlite3", ports["shop"], len(lived))
            tell(lives, {})
            lived.append(heard(lives))
        record = record_of(folder, ports, lived)
    return Outcome(record, check(record), rested)


# Those whom it meets

@contextmanager
def town(seed: int) -> Iterator[dict[str, int]]:
    """Shop, PagerDuty and webhook, each a process; their ports."""
    names = ("shop", "pagerduty", "hook")
    processes = {name: subprocess.Popen([sys.executable, str(HERE / "counterparts.py"), name, str(seed)], stdout=subprocess.PIPE) for name in names}
    try:
        yield {name: int(json.loads(_line(process))["port"]) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(10)
            if process.stdout:
                process.stdout.close()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    return process.stdout.readline()


def get(port: int, path: str = "/history") -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.loads(answer.read())


def post(port: int, path: str, body: object = None) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method="POST"), timeout=10) as answer:
        assert answer.status == 204


def write_config(folder: Path, ports: dict[str, int], probes: Sequence[str] = PROBES, interval: str = "250ms") -> Path:
    """The daemon's configuration file."""
    state = folder / "state"
    text = CONFIG.format(shop=SHOP, shop_port=ports["shop"], web=0, state=state, pager=ports["pagerduty"], hook=ports["hook"],
                         interval=interval, key=KEY, secret=SECRET)
    for name in probes:
        expect = "status = [200]" if by_status(name) else 'body_contains = "Add to basket"'
        text += PROBE.format(name=name, host=host(name), port=ports["shop"], urgency=urgency(name), expect=expect)
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def record_of(folder: Path, ports: dict[str, int], lived: Sequence[Life]) -> Record:
    """All that is left when the daemon has stopped."""
    histories = get(ports["pagerduty"]), get(ports["hook"]), get(ports["shop"])
    return recorded(folder / "state" / "tillwatch.sqlite3", SHOP, *histories, lived)


# Its lives

@contextmanager
def nursery(config: Path, log: Path, script: Path = HERE / "lives.py") -> Iterator[subprocess.Popen[bytes]]:
    """The process in which lives begin and end."""
    process = subprocess.Popen([sys.executable, str(script), str(config), str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env=os.environ | {"LIFE": ""}, start_new_session=True)
    try:
        yield process
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)      # a session of its own: it, and the life that did not end
            process.wait()
        if process.stdout:
            process.stdout.close()


def live(lives: subprocess.Popen[bytes], plan: dict[str, Any]) -> Life:
    tell(lives, plan)
    return heard(lives)


def tell(lives: subprocess.Popen[bytes], plan: dict[str, Any]) -> None:
    assert lives.stdin
    lives.stdin.write(json.dumps(plan).encode() + b"\n")
    lives.stdin.flush()


def heard(lives: subprocess.Popen[bytes]) -> Life:
    return Life(**json.loads(_line(lives)))


def rest(database: Path, shop: int, life: int) -> float:
    """Wait until this life has begun, no incident is open and no message waits; how long that took, s. At most REST_SECONDS: the checker
    says what is missing.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < REST_SECONDS and (not visited(shop, life) or _busy(database)):
        time.sleep(0.25)
    return time.monotonic() - begun


def visited(shop: int, life: int) -> bool:
    """Has the life of this number visited the shop?"""
    return str(life) in get(shop)["visits"]


def _busy(database: Path) -> bool:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
    try:
        open_, = connection.execute("SELECT count(*) FROM incident WHERE resolved IS NULL AND kind = 'outage'").fetchone()
        waiting, = connection.execute("SELECT count(*) FROM outbox WHERE state IN ('queued', 'inflight')").fetchone()
        down, = connection.execute("SELECT count(*) FROM health WHERE json_extract(state, '$.down')").fetchone()
    except sqlite3.OperationalError:
        return True                                      # it is only just being made
    finally:
        connection.close()
    return bool(open_ or waiting or down)
