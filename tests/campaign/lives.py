"""The daemon's lives: `python lives.py CONFIG LOG` reads plans, one JSON object a line, and says what became of each.

{"number": 3, "seconds": 0.7} is a life that is ended by SIGKILL after so long; with "real" it begins as `python -m monitor run`, in an
interpreter of its own. {"number": 4, "rest": true} goes on until the next line, and is then stopped in order. {"number": 5, "failpoint":
["after commit", "firing", ""]} ends by itself, at once and without a word, at that point (failpoints.py).

All but the real ones are forks of this process, which has imported everything and done nothing. What that leaves out is Python's own
start and the imports (0.7 s), nothing of the daemon: the child enters `monitor.app.run` with the configuration read anew, on a fresh
event loop, as the command does. Two things are not as they are out there, in these lives: the times for which one that comes and goes
must be quiet, in which many outages are a storm, and for which an end waits for a beginning that may arrive late, are seconds and not
minutes; and receivers may be sent more messages a minute. Otherwise twenty probes would be one lasting incident, and not hundreds. The
real starts keep the real times.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import failpoints
from processes import Withheld

from monitor import app, health, incidents, logs
from monitor.alerts.delivery import ReceiverSettings
from monitor.alerts.outbox import sending, telling
from monitor.alerts.pagerduty import PagerDutySettings
from monitor.config import load

LATE_ARRIVAL = 3.0         # s


def hasten() -> None:
    """Seconds in place of minutes, for this process and its children."""
    health.FLAPPING_SECONDS, health.REMEMBERED_SECONDS, health.QUIET_SECONDS, health.MOST_QUIET_SECONDS = 18.0, 36.0, 0.5, 2.0
    incidents.STORM_SECONDS = 3.0
    telling.LATE_ARRIVAL = sending.LATE_ARRIVAL = LATE_ARRIVAL
    ReceiverSettings.per_minute = PagerDutySettings.per_minute = 6000.0


def born(config: Path, plan: dict[str, Any]) -> int:
    """Begin a life; its process id."""
    os.environ["LIFE"] = str(plan["number"])         # the probes say it to the shop, so that it knows whose visit is whose
    if plan.get("real"):
        return subprocess.Popen([sys.executable, "-m", "monitor", "-c", str(config), "run"], stdin=subprocess.DEVNULL, stdout=2).pid
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        if plan.get("failpoint"):
            failpoints.install(*plan["failpoint"])
        logs.configure("json")
        app.run(load(config))
        code = 0
    except BaseException as error:  # noqa: BLE001 - it is told, and the process ends here
        print(f"died: {error!r}", file=sys.stderr)
    finally:
        os._exit(code)


def lived(config: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """One life from its beginning to its end."""
    with Withheld() as from_us:
        begun, late = time.time(), -from_us()
        child = born(config, plan)
        late += from_us()
    with Withheld(child) as from_it:
        late -= from_it()
        if plan.get("rest"):
            sys.stdin.readline()
        elif "seconds" in plan:
            time.sleep(plan["seconds"])
        if not plan.get("failpoint"):
            os.kill(child, signal.SIGTERM if plan.get("rest") else signal.SIGKILL)
        ended = time.time()
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)          # it can still be asked
        withheld = late + from_it()
    _, status = os.waitpid(child, 0)
    if plan.get("failpoint"):
        ended = time.time()
    return {"begun": begun, "ended": ended, "withheld": withheld, "code": os.waitstatus_to_exitcode(status), "real": bool(plan.get("real"))}


def main(config: Path, log: Path) -> None:
    hasten()
    load(config)                                     # what is wrong with it is said at once
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    while line := sys.stdin.readline():
        print(json.dumps(lived(config, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
