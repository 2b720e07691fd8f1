"""T2: ended at every point between an outage and its answer, for its beginning and its end.

Nothing is lost, and said again is only what was sent and whose answer was not written down.
"""

import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from campaign_checker import check, key
from campaign_record import Life, Record
from failpoints import CODE, POINTS
from kill_campaign import get, heard, nursery, post, record_of, tell, town, visited, write_config
from lives import LATE_ARRIVAL
from shop_script import PROBES, by_status, host

SAID_AGAIN = {"after request sent", "after 2xx before mark-done"}
CASES = [(point, kind, receiver) for point in POINTS if "gathered" not in point for kind in ("firing", "resolved")
         for receiver in (("",) if "commit" in point else ("pager", "phone"))]
INTERVAL = "500ms"         # and time-out: a shop that the machine holds up for a second is no outage; less than campaign_checker.EDGE
pytestmark = pytest.mark.timeout(60)


@dataclass
class Stage:
    """One daemon that lives through all cases, each with a page of its own."""

    folder: Path
    ports: dict[str, int]
    lives: subprocess.Popen[bytes]
    lived: list[Life] = field(default_factory=list)

    def begin(self, **plan: object) -> None:
        tell(self.lives, {"number": len(self.lived), **plan})

    def begin_anew(self) -> None:
        """After the failpoint: a life that goes on until it is stopped."""
        self.begin(rest=True)
        self.wait(lambda: visited(self.ports["shop"], len(self.lived)))

    def stop(self) -> None:
        tell(self.lives, {})
        assert self.end() == 0

    def end(self) -> int:
        """The exit code of the life that ends now; one that ended at its failpoint counts as killed."""
        life = heard(self.lives)
        self.lived.append(replace(life, code=-9) if life.code == CODE else life)
        return life.code

    def wait(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not true():
            assert time.monotonic() < end, (self.folder / "daemon.log").read_text()[-3000:]
            time.sleep(0.02)

    def told(self, *, over: bool) -> bool:
        """Is there an open incident (is there none), and does nobody wait for a message?"""
        open_, waiting, down = map(self.count, (
            "incident WHERE resolved IS NULL", "outbox WHERE state IN ('queued', 'inflight')", "health WHERE json_extract(state, '$.down')"))
        return not waiting and (not open_ and not down if over else bool(open_))

    def count(self, what: str) -> int:
        connection = sqlite3.connect(f"file:{self.folder / 'state' / 'tillwatch.sqlite3'}?mode=ro", uri=True, timeout=5)
        try:
            return int(connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
        finally:
            connection.close()

    def record(self) -> Record:
        return record_of(self.folder, self.ports, self.lived)


@contextmanager
def opened(folder: Path) -> Iterator[Stage]:
    (folder / "state").mkdir(mode=0o700)
    with town(0) as ports, nursery(write_config(folder, ports, interval=INTERVAL), folder / "daemon.log") as lives:
        yield Stage(folder, ports, lives)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened(tmp_path_factory.mktemp("failpoints")) as found:
        yield found


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Stage]:
    """A stage of its own: on the other one every page has been down before, and one that comes and goes recovers otherwise."""
    with opened(tmp_path) as found:
        yield found


@pytest.mark.parametrize(("point", "kind", "receiver"), CASES, ids=[" ".join(case).strip() for case in CASES])
def test_ended_there(stage: Stage, point: str, kind: str, receiver: str) -> None:
    page = PROBES[CASES.index((point, kind, receiver))]
    stage.begin(failpoint=[point, kind, receiver])
    post(stage.ports["shop"], f"/break/{page}")
    if kind == "resolved":
        stage.wait(lambda: stage.told(over=False))
        post(stage.ports["shop"], "/recover")
    assert stage.end() == CODE
    stage.begin_anew()
    if kind == "firing":
        stage.wait(lambda: stage.told(over=False))
        post(stage.ports["shop"], "/recover")
    stage.wait(lambda: stage.told(over=True))
    stage.stop()
    record = stage.record()
    assert check(record) == []
    id_, = (id_ for id_, facts in record.incidents.items() if facts["members"][0]["probe"] == page)
    said = {("phone", kind): [r.id for r in record.hook if (r.incident, r.type) == (id_, f"incident.{kind}")] for kind in ("firing", "resolved")}
    said |= {("pager", kind): [e.key for e in record.pager if (e.key, e.action) == (key(record, id_, 0), action)]
             for kind, action in (("firing", "trigger"), ("resolved", "resolve"))}
    wanted = {who: 1 + (who == (receiver, kind) and point in SAID_AGAIN) for who in said}
    beside = {who for who in said if "commit" not in point and who[0] != receiver and who[1] == kind}      # under way at the same time
    assert {who: len(names) for who, names in said.items() if who not in beside} == {who: n for who, n in wanted.items() if who not in beside}
    assert all(len(said[who]) in {1, 2} for who in beside)
    assert all(len(set(names)) == 1 for names in said.values())


def test_an_end_lets_a_beginning_arrive_that_was_under_way_when_the_daemon_was_killed(stage: Stage) -> None:
    """Else it would open an alert that nobody ends."""
    page, before = PROBES[0], stage.count("incident")
    post(stage.ports["pagerduty"], "/hold")
    stage.begin(failpoint=["after commit", "resolved", ""])
    post(stage.ports["shop"], f"/break/{page}")
    stage.wait(lambda: stage.count("incident") > before and get(stage.ports["pagerduty"], "/held") == 1)
    post(stage.ports["shop"], "/recover")
    assert stage.end() == CODE
    post(stage.ports["pagerduty"], "/release")               # after its sender has died, and before the end may go out
    stage.begin_anew()
    stage.wait(lambda: stage.told(over=True))
    stage.stop()
    record = stage.record()
    id_ = list(record.incidents)[-1]
    assert [row.state for row in record.outbox if (row.incident, row.receiver) == (id_, "pager")] == ["superseded", "done"]
    trigger, resolve = (event for event in record.pager if event.key == key(record, id_, 0))
    assert (trigger.action, resolve.action) == ("trigger", "resolve")
    assert resolve.at - record.lives[-1].begun > LATE_ARRIVAL, "it has waited for so long"
    assert check(record) == []


def test_a_recovery_that_was_not_committed_is_seen_again(fresh: Stage) -> None:
    """Of two probes of one incident: else it would stay open, for the one is known to be well, and the incident does not know."""
    one, other = (page for page in PROBES if host(page) == host(PROBES[1]) and by_status(page))
    fresh.begin_anew()
    for number, page in enumerate((one, other), 1):
        post(fresh.ports["shop"], f"/break/{page}")
        fresh.wait(lambda: fresh.told(over=False) and fresh.count("health WHERE json_extract(state, '$.down')") == number)  # noqa: B023
    fresh.stop()
    fresh.begin(failpoint=["before commit, long gathered", "changed", ""])
    post(fresh.ports["shop"], f"/recover/{other}")
    assert fresh.end() == CODE
    assert fresh.count("health WHERE json_extract(state, '$.down')") == 1, "its health was committed before its recovery"
    fresh.begin_anew()
    post(fresh.ports["shop"], "/recover")
    fresh.wait(lambda: fresh.told(over=True))
    fresh.stop()
    assert check(fresh.record()) == []
