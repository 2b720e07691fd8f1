"""The whole way with everything real: a shop, an update that breaks it, and a daemon that is killed at every step."""

import sqlite3
import time
from pathlib import Path

import pytest
from processes import until
from theatre import Stage, Watch, stage

pytestmark = pytest.mark.timeout(240)


def test_one_incident_is_told_once_everywhere_though_the_daemon_is_killed_in_every_phase(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        here.start()
        until(lambda: here.runs() > 60, 90, "half a baseline")
        here.kill()
        here.start()
        until(lambda: here.runs() > 70, 60, "the other half")

        id_ = here.tillwatch("update", "start", "2.0", "--change", "payment-gateway@3").strip()
        frozen = here.get(f"/api/v1/updates/{id_}")
        here.kill()
        here.start()
        assert here.get(f"/api/v1/updates/{id_}")["started"] == frozen["started"]

        watch = here.watch()
        here.deploy("2.0")
        here.tillwatch("gate", id_, "--timeout", "60s", code=1)
        until(lambda: here.inbox.messages and here.mailbox.mails and here.alerts(), 30, "the page at all receivers")
        watch.stop()
        here.kill()
        here.start()
        time.sleep(3)                        # long enough for a page to be sent again, if it were
        _exactly_one_page(here, id_)

        here.deploy("1.1")
        here.tillwatch("update", "rollback", id_)
        here.kill()
        here.start()
        until(lambda: len(here.inbox.messages) == 2 and len(here.mailbox.mails) == 2 and not here.alerts(), 90, "the end at all receivers")
        _ended(here, id_)
        assert here.stop() == 0
        _quick_and_sound(tmp_path / "state" / "tillwatch.sqlite3", watch)


def _exactly_one_page(here: Stage, id_: str) -> None:
    (page,) = here.inbox.messages
    assert page["type"] == "incident.firing"
    assert page["data"]["kind"] == "regression"
    assert page["data"]["evidence"]
    (alert,) = here.alerts()
    assert alert["labels"]["incident"] == page["data"]["incident"]
    assert alert["labels"]["update"] == id_
    assert alert["labels"]["shop"] == "kettle"
    (mail,) = here.mailbox.mails
    assert "Auto-Submitted: auto-generated" in mail
    (incident,) = here.get("/api/v1/incidents?open=true")["incidents"]
    assert incident["id"] == page["data"]["incident"]


def _members(here: Stage) -> set[str]:
    (incident,) = here.get("/api/v1/incidents?open=true")["incidents"]
    return {member["probe"] for member in incident["members"]}


def _ended(here: Stage, id_: str) -> None:
    firing, resolved = here.inbox.messages
    assert resolved["type"] == "incident.resolved"
    assert resolved["data"]["incident"] == firing["data"]["incident"]
    assert here.get("/api/v1/incidents?open=true")["incidents"] == []
    facts = here.get(f"/api/v1/updates/{id_}")
    assert (facts["status"], facts["verdict"]) == ("closed", "regression")
    assert [act["act"] for act in facts["acts"]] == ["start", "regression", "rollback", "recovered"]
    here.tillwatch("report", id_, "-o", str(here.folder / "report.md"))
    assert "payment" in (here.folder / "report.md").read_text()


def _quick_and_sound(path: Path, watch: Watch) -> None:
    """From the verdict to the first attempt in under a second of the daemon's own, and a file that is whole."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    pages = connection.execute("SELECT created, first_attempt FROM outbox WHERE kind = 'firing'").fetchall()
    connection.close()
    assert len(pages) == 3
    assert max(first - created - watch.between(created, first) for created, first in pages) < 1.0


def test_an_outage_pages_once_and_is_over_when_the_shop_is_back(tmp_path: Path) -> None:
    with stage(tmp_path, confirm="1s", interval="1500ms") as here:   # so that a shop which waits for the processor is not down
        here.start()
        until(lambda: here.runs() >= 1, 30, "the first runs")
        here.close_shop()
        until(lambda: here.inbox.messages and here.mailbox.mails and here.alerts(), 30, "the page")
        (page,) = here.inbox.messages
        assert page["data"]["kind"] == "outage"
        until(lambda: _members(here) == {"category", "pay"}, 10, "both probes in one incident")
        here.open_shop()
        until(lambda: len(here.inbox.messages) == 2 and not here.alerts(), 30, "the end")
        assert here.inbox.messages[1]["type"] == "incident.resolved"
        assert here.stop() == 0
