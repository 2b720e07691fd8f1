"""A real Alertmanager that is killed every 30 s, and the daemon every 45 s: `python bench/alertmanager_kills.py [--minutes 5]`.

Every other time Alertmanager is stopped in order, which keeps its notification log; killed, it forgets everything. One page of the
shop fails all the time, others for 50 s each. Alertmanager is asked every half second what is firing, and tells a webhook as it would
tell people. What must hold: nothing is announced as resolved, and nothing is missing from Alertmanager for longer than a minute and the
restart, while it lasts; what is over is gone from Alertmanager within two minutes.
"""

import argparse
import http.server
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "campaign"))

from kill_campaign import PROBE, post, town
from shop_script import HOSTS, PROBES, by_status, host

ALERTMANAGER_EVERY, DAEMON_EVERY = 30.0, 45.0
AWAY = 2.0                 # s that Alertmanager is gone
LASTS, BETWEEN = 50.0, 20.0      # an outage, and from one to the next
MISSING, OVER = 65.0, 120.0      # s: what the promise is
ROUTE = """
route: {{ receiver: people, group_by: [incident, escalation], group_wait: 0s, group_interval: 1s, repeat_interval: 4h }}
receivers: [{{ name: people, webhook_configs: [{{ url: "http://127.0.0.1:{port}/", send_resolved: true }}] }}]
"""
CONFIG = """
[shop]
name = "kettle"
url = "http://127.0.0.1:{shop}"
[web]
listen = "127.0.0.1:0"
[daemon]
state_dir = "{state}"
[defaults]
interval = "500ms"
timeout = "500ms"
failures = 2
of = 2
confirm = "500ms"
[[receiver]]
name = "am"
kind = "alertmanager"
peers = ["http://127.0.0.1:{alertmanager}"]
"""


@dataclass
class Seen:
    """Unix s: when each incident was announced as resolved, when each was firing in Alertmanager, and when that could be asked."""

    resolved: list[tuple[float, str]] = field(default_factory=list)
    firing: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    asked: list[float] = field(default_factory=list)


@contextmanager
def people(seen: Seen) -> Iterator[int]:
    """Whom Alertmanager notifies."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.resolved += [(time.time(), alert["labels"]["incident"]) for alert in message["alerts"] if alert["status"] == "resolved"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class Process:
    """Something that is ended and begun again."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log, self.ends = command, log, 0
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env={"LIFE": "0", "PATH": "/usr/bin:/bin"})

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self._process.send_signal(number)
        self._process.wait(20)
        self.ends += 1


def look(port: int, seen: Seen) -> None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts?active=true", timeout=2) as answer:
            alerts: list[dict[str, Any]] = json.loads(answer.read())
    except OSError:
        return
    now = time.time()
    seen.asked.append(now)
    for alert in alerts:
        if datetime.fromisoformat(alert["endsAt"]).timestamp() > now:
            seen.firing[alert["labels"]["incident"]].append(now)


def play(minutes: float, shop: int, port: int, alertmanager: Process, daemon: Process, seen: Seen) -> None:
    """All that happens, by the clock; the last two minutes belong to the ends."""
    begun, pages = time.monotonic(), [page for page in PROBES if not by_status(page)]
    post(shop, f"/break/{PROBES[0]}")
    plan: list[tuple[float, str, str]] = []
    last = minutes * 60 - OVER - LASTS
    for number in range(int(last // BETWEEN)):
        page = pages[number % len(pages)]
        plan += [(number * BETWEEN, "break", page), (number * BETWEEN + LASTS, "recover", page)]
    plan += [(number * ALERTMANAGER_EVERY, "alertmanager", "") for number in range(1, int(minutes * 60 // ALERTMANAGER_EVERY))]
    plan += [(number * DAEMON_EVERY, "daemon", "") for number in range(1, int(minutes * 60 // DAEMON_EVERY))]
    for at, what, page in sorted([*plan, (minutes * 60, "done", "")]):
        while time.monotonic() - begun < at:
            time.sleep(0.5)
            look(port, seen)
        if what == "alertmanager":
            alertmanager.end(signal.SIGTERM if alertmanager.ends % 2 else signal.SIGKILL)
            time.sleep(AWAY)
            alertmanager.start()
        elif what == "daemon":
            daemon.end()
            daemon.start()
        elif page:
            post(shop, f"/{what}/{page}")


def judge(database: Path, seen: Seen) -> dict[str, Any]:
    """Figures, and what is wrong."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    incidents = [json.loads(facts) for (facts,) in connection.execute("SELECT facts FROM incident WHERE kind = 'outage'")]
    connection.close()
    ends = {facts["id"]: facts["resolved"] for facts in incidents}
    wrong = [f"{id_} was announced as resolved while it lasted" for at, id_ in seen.resolved if ends.get(id_) is None or at < ends[id_] - 1]
    missing, over = [0.0], [0.0]
    for facts in incidents:
        end = facts["resolved"] or seen.asked[-1]
        looks = [at for at in seen.asked if facts["opened"] <= at <= end]
        there = sorted({facts["opened"], end, *(at for at in seen.firing[facts["id"]] if at <= end)})
        gaps = [b - a for a, b in pairwise(there)]
        missing.append(max(gaps, default=0.0) if looks else 0.0)
        over.append(max((at - end for at in seen.firing[facts["id"]] if facts["resolved"]), default=0.0))
        if not any(at <= end for at in seen.firing[facts["id"]]):
            wrong.append(f"{facts['id']} never came to Alertmanager")
    wrong += [f"missing for {gap:.0f} s while it lasted" for gap in missing if gap > MISSING]
    wrong += [f"still there {late:.0f} s after its end" for late in over if late > OVER]
    return {"incidents": len(incidents), "over": sum(end is not None for end in ends.values()), "announced as resolved": len(seen.resolved),
            "longest missing while it lasted, s": round(max(missing), 1), "longest there after its end, s": round(max(over), 1), "wrong": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    minutes = parser.parse_args().minutes
    seen = Seen()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tillwatch-alertmanager-")))
        ports, inbox = stack.enter_context(town(0)), stack.enter_context(people(seen))
        port = inbox + 1 if inbox < 65000 else inbox - 1
        (folder / "alertmanager.yml").write_text(ROUTE.format(port=inbox))
        text = CONFIG.format(shop=ports["shop"], state=folder / "state", alertmanager=port)
        for name in (PROBES[0], *(page for page in PROBES if not by_status(page))):
            expect = "status = [200]" if by_status(name) else 'body_contains = "Add to basket"'
            text += PROBE.format(name=name, host=host(name), port=ports["shop"], urgency="page", expect=expect)
        (folder / "config.toml").write_text(text)
        alertmanager = Process(["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
                                f"--web.listen-address={HOSTS[0]}:{port}", "--cluster.listen-address="], folder / "alertmanager.log")
        stack.callback(alertmanager.end)
        daemon = Process([sys.executable, "-m", "monitor", "-c", str(folder / "config.toml"), "run"], folder / "daemon.log")
        stack.callback(daemon.end)
        play(minutes, ports["shop"], port, alertmanager, daemon, seen)
        figures = judge(folder / "state" / "tillwatch.sqlite3", seen)
    print(json.dumps({"minutes": minutes, "Alertmanager ended": alertmanager.ends - 1, "daemon killed": daemon.ends - 1} | figures))
    return int(bool(figures["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
