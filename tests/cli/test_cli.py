"""The command line against a real daemon that watches the bundled shop."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import click
import pytest
from processes import ending, free_port
from street import Done, Street, answers, command, environment, process, stub, till, until

from monitor.cli import main, main_group

pytestmark = pytest.mark.timeout(120)
PROBLEM = json.dumps({"detail": "not today"}).encode()


def verbs(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, verb in group.commands.items():
        yield (*path, name)
        if isinstance(verb, click.Group):
            yield from verbs(verb, (*path, name))


VERBS = list(verbs(main_group))
Here = Callable[..., Done]


@pytest.fixture
def opened(again: Here) -> Iterator[str]:
    """An update that is open, cancelled after the test."""
    id_ = again("update", "start", "1.1").out.strip()
    yield id_
    again("update", "cancel", id_)


@pytest.fixture(scope="module")
def passed(shop: Street) -> dict[str, Any]:
    """What the gate says of an update that harmed nothing."""
    shop.have_a_past()
    started = shop.till("update", "start", "1.1", "--change", "kettle@1.1", "--change", "theme", "--link", "https://shop.example/r/1.1", "--json")
    assert started.code == 0, started.err
    shop.deploy("1.1")
    assert shop.till("update", "finish").code == 0
    done = shop.till("gate", started.json["id"], "--output", "json", "--timeout", "60s")
    assert done.code == 0, done.out + done.err
    return dict(done.json)


@pytest.fixture(scope="module")
def regressed(shop: Street, passed: dict[str, Any]) -> dict[str, Any]:
    """What the gate says of an update after which nobody can pay; it is rolled back, and over."""
    id_ = shop.till("update", "start", "2.0", "--change", "payment-gateway@3").out.strip()
    shop.deploy("2.0")
    done = shop.till("gate", id_, "--output", "json", "--timeout", "60s")
    assert done.code == 1, done.out + done.err
    shop.deploy("1.1")
    rolled = shop.till("update", "rollback")
    assert (rolled.code, rolled.out) == (0, f"{id_}: recovering\n")
    until(lambda: any(m["type"] == "incident.resolved" for m in shop.inbox.messages), 30)
    return dict(done.json)





@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Here:
    """The same program, run in this process: what takes no daemon need not wait for Python to start."""
    def run(*words: str, **env: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tillwatch", *words])
        monkeypatch.chdir(tmp_path)
        for name in ("TILLWATCH_URL", "TILLWATCH_TOKEN", "TILLWATCH_CONFIG"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as left:
            main()
        told = capsys.readouterr()
        return Done(int(left.value.code or 0), told.out, told.err)
    return run


@pytest.fixture
def again(here: Here, shop: Street) -> Here:
    """The same against the daemon, for a second look."""
    return lambda *words: here(*words, **shop.address)


# ---- help and usage, without a daemon


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_says_what_it_does(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main_group.main([*verb, "--help"], standalone_mode=False) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: ")
    described = text.split("\n\n")[1]
    assert re.search(r"[a-z]{3,} [a-z]{2,}", described), f"{verb} has no words of its own"


def test_help_names_all_verbs_and_all_exit_codes() -> None:
    done = till("--help")
    assert (done.code, done.err) == (0, "")
    assert all((verb[0] in done.out) != main_group.commands[verb[0]].hidden for verb in VERBS)
    assert all(re.search(rf"\b{code}\b", done.out) for code in (0, 1, 2, 3, 4, 5, 6, 7, 70, 124, 130))
    assert till("--version").out.startswith("tillwatch, version ")


@pytest.mark.parametrize("words", [
    ["nonsense"], ["update"], ["update", "start"], ["gate", "--output", "yaml"], ["probe"], ["-c", "nowhere.toml", "update", "list"],
    ["--url", "ftp://x", "update", "list"],
], ids=" ".join)
def test_wrong_usage_is_2_and_says_so_on_stderr(words: list[str], here: Here) -> None:
    done = here(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


# ---- one probe, once


@pytest.fixture(scope="module")
def lone(shop: Street) -> Path:
    """A configuration with a probe for each outcome, a receiver that answers and one that does not."""
    path = shop.directory / "lone.toml"
    path.touch(mode=0o600)
    path.write_text(f"""
[shop]
name = "kettle"
url = "http://127.0.0.1:{shop.shop}"
[[probe]]
name = "good"
kind = "http"
url = "http://127.0.0.1:{shop.shop}/"
[[probe]]
name = "bad"
kind = "http"
url = "http://127.0.0.1:{shop.shop}/nothing-here"
[[probe]]
name = "ours"
kind = "http"
url = "http://127.0.0.1:{shop.shop}/"
bearer_token = {{ env = "NO_SUCH_VARIABLE" }}
[[receiver]]
name = "phone"
kind = "webhook"
url = "http://127.0.0.1:{shop.inbox.port}/page"
secret = "{shop.inbox.secret}"
[[receiver]]
name = "dead"
kind = "webhook"
url = "http://127.0.0.1:{free_port()}/page"
secret = "{shop.inbox.secret}"
""")
    return path


@pytest.mark.parametrize(("name", "code", "outcome", "reason"), [
    ("good", 0, "ok", ""), ("bad", 1, "failed", "status"), ("ours", 4, "broken", "settings")])
def test_a_probe_says_whose_doing_it_is(lone: Path, name: str, code: int, outcome: str, reason: str) -> None:
    done = till("-c", str(lone), "probe", name, "--json")
    assert done.code == code, done.err
    assert (done.json["probe"], done.json["outcome"], done.json["reason"], done.json["trigger"]) == (name, outcome, reason, "manual")
    if name == "good":
        assert {"connect", "processing"} <= set(done.json["values"])
        assert done.json["facts"]["status_code"] == 200


def test_a_probe_is_shown_to_people_too(lone: Path, here: Here) -> None:
    done = here("-c", str(lone), "probe", "bad")
    assert (done.code, done.out.splitlines()[0].startswith("bad: failed (status) in ")) == (1, True)


def test_a_probe_that_is_not_there_is_2_and_the_others_are_named(lone: Path, here: Here) -> None:
    done = here("-c", str(lone), "probe", "goood")
    assert (done.code, done.out) == (2, "")
    assert "good, bad, ours" in done.err


# ---- drills


def test_a_drill_goes_through_one_receiver(lone: Path, shop: Street) -> None:
    before = len(shop.inbox.messages)
    done = till("-c", str(lone), "test-alert", "phone", "--json")
    assert (done.code, done.json["drills"][0]["delivered"]) == (0, True), done.err
    (message,) = shop.inbox.messages[before:]
    shop.inbox.messages.remove(message)
    assert (message["type"], message["data"]["drill"]) == ("test", True)


def test_a_receiver_that_does_not_answer_is_1(lone: Path, shop: Street, here: Here) -> None:
    done = here("-c", str(lone), "test-alert", "dead")
    assert done.code == 1
    assert done.out.startswith("dead (webhook): not delivered: ")
    assert shop.inbox.secret not in done.out + done.err
    done = here("-c", str(lone), "test-alert", "nobody")
    assert (done.code, "phone, dead" in done.err) == (2, True)


# ---- the daemon itself


def test_a_port_that_is_taken_is_said_clearly(shop: Street, tmp_path: Path) -> None:
    path = copied(shop, tmp_path)
    with process(command("-c", str(path), "run"), tmp_path / "daemon.log") as daemon:
        assert ending(daemon, 50) < 10
    err = (tmp_path / "daemon.log").read_text()
    assert daemon.returncode == 2, err
    assert str(shop.daemon) in err.splitlines()[-1]
    assert "address already in use" in err
    assert "Traceback" not in err
    assert answers(shop.daemon)


def test_a_second_daemon_on_the_same_state_is_refused(shop: Street, tmp_path: Path) -> None:
    path = copied(shop, tmp_path, daemon=free_port(), state=shop.directory / "state")
    done = till("-c", str(path), "run")
    assert (done.code, "another Tillwatch" in done.err, "Traceback" in done.err) == (2, True, False)


def test_a_store_of_a_newer_version_is_refused(shop: Street, tmp_path: Path) -> None:
    path = copied(shop, tmp_path, daemon=free_port())
    (tmp_path / "state").mkdir()
    connection = sqlite3.connect(tmp_path / "state" / "tillwatch.sqlite3")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    done = till("-c", str(path), "run")
    assert (done.code, "schema 999" in done.err, "Traceback" in done.err) == (2, True, False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_daemon_stops_in_order_within_ten_seconds(shop: Street, tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    log = tmp_path / "daemon.log"
    with process(command("-c", str(copied(shop, tmp_path, daemon=port)), "run"), log) as daemon:
        until(lambda: b'"ready"' in log.read_bytes())
        daemon.send_signal(number)
        assert ending(daemon, 40) < 10
        assert daemon.wait() == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["event"] for e in events] == ["ready", "stopping"]
    assert (tmp_path / "state" / "token").stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(tmp_path / "state" / "tillwatch.sqlite3")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not connection.execute("SELECT * FROM flip").fetchall(), "no verdict on runs that were ended"
    connection.close()


def copied(shop: Street, directory: Path, daemon: int | None = None, state: Path | None = None) -> Path:
    """The street's configuration with another port, or another state."""
    path = directory / "config.toml"
    text = shop.config.read_text()
    if daemon:
        text = text.replace(f":{shop.daemon}", f":{daemon}")
    if state:
        text = text.replace("[web]", f'[daemon]\nstate_dir = "{state}"\n[web]')
    path.touch(mode=0o600)
    path.write_text(text)
    return path


# ---- the gate


def test_a_good_update_passes_the_gate(again: Here, passed: dict[str, Any]) -> None:
    assert (passed["verdict"], passed["pass"], passed["exit_code"], passed["status"]) == ("pass", True, 0, "closed")
    assert passed["sentence"].startswith("No harm seen in ")
    table = again("gate", passed["id"])
    assert table.code == 0
    assert table.out.startswith(f"{passed['id']} (1.1): pass\nNo harm seen in ")
    suite = ET.fromstring(again("gate", passed["id"], "--output", "junit").out)
    assert (suite.get("failures"), suite[0].get("name"), len(suite[0])) == ("0", "update 1.1", 0)
    assert again("gate", passed["id"], "--output", "github").out.startswith("::notice title=Tillwatch%3A pass::No harm seen")


def test_a_bad_update_does_not(shop: Street, again: Here, regressed: dict[str, Any]) -> None:
    assert (regressed["verdict"], regressed["pass"], regressed["exit_code"]) == ("regression", False, 1)
    assert "pay" in regressed["sentence"]
    junit = shop.till("gate", regressed["id"], "--output", "junit", "--on-inconclusive", "pass")
    assert junit.code == 1
    (failure,) = ET.fromstring(junit.out)[0]
    assert failure.get("message") == "regression"
    assert "*pay* failed" in (failure.text or ""), "the numbers may have grown since"
    github = again("gate", regressed["id"], "--output", "github")
    assert (github.code, github.out.startswith("::error title=Tillwatch%3A regression::"), github.out.count("\n")) == (1, True, 1)


def test_a_bad_update_makes_one_page_and_one_all_clear(shop: Street, again: Here, regressed: dict[str, Any]) -> None:
    types = [m["type"] for m in shop.inbox.messages]
    assert types == ["incident.firing", "incident.resolved"]
    assert len({m["data"]["incident"] for m in shop.inbox.messages}) == 1
    listed = again("incidents", "--all", "--json").json
    (incident,) = [i for i in listed if i["update"] == regressed["id"]]
    assert (incident["kind"], incident["resolved"] is not None) == ("regression", True)
    table = shop.till("incidents", "--all")
    assert re.search(rf"{incident['id']} +regression +page ", table.out)
    assert incident["id"] not in again("incidents").out
    assert again("incidents", "--json").json == []


# ---- updates that are not judged to the end


def test_an_update_is_started_moved_and_shown(shop: Street, opened: str, again: Here) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d+", opened)
    refused = again("update", "start", "9.9")
    assert (refused.code, opened in refused.err, refused.out) == (7, True, "")
    moved = shop.locally("update", "phase", "wider")
    assert (moved.code, moved.out) == (0, f"{opened}: phase wider\n")
    status = shop.till("update", "status")
    assert status.code == 0
    assert status.out.startswith(f"{opened}  version 1.1  open, phase wider  verdict watching\n")
    assert "start by local admin" in status.out
    assert "phase by local admin  wider" in status.out
    facts = again("update", "status", opened, "--json").json
    assert [a["act"] for a in facts["acts"]] == ["start", "phase"]
    assert {s["probe"] for s in facts["signals"]} == {"home", "pay"}
    listed = shop.till("update", "list")
    assert re.search(rf"^{opened} +1\.1 .* open +wider +watching +local admin", listed.out, re.MULTILINE)
    assert again("update", "list", "--json").json[0]["id"] == opened


@pytest.mark.parametrize("words", [
    ["update", "start", "2", "--expect-downtime", "soon"], ["update", "start", "2", "--link", "javascript:alert(1)"], ["update", "start", ""],
    ["update", "start", "2", "--change", "@1"],
], ids=" ".join)
def test_a_start_that_makes_no_sense_is_2(again: Here, words: list[str]) -> None:
    done = again(*words)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.startswith("tillwatch: ")


def test_an_update_that_is_not_there_or_in_another_phase_is_7(shop: Street, again: Here) -> None:
    first = again("update", "start", "1.1").out.strip()
    assert shop.till("update", "cancel", first).out == f"{first}: cancelled\n"
    for words in (["update", "finish", first], ["update", "cancel", "a b/ü?c"], ["gate", "no such update"], ["report", "nobody"]):
        done = again(*words)
        assert (done.code, done.out) == (7, ""), (words, done.err)


def test_an_inconclusive_or_cancelled_update_is_4_or_0_as_asked(shop: Street, again: Here, regressed: dict[str, Any]) -> None:
    first = again("update", "start", "1.2").out.strip()
    assert again("update", "finish").out == f"{first}: observing\n"
    second = again("update", "start", "1.3").out.strip()
    assert again("update", "cancel").code == 0
    for id_, word in ((first, "inconclusive"), (second, "cancelled")):
        done = shop.till("gate", id_)
        assert (done.code, done.out.splitlines()[0].endswith(f": {word}")) == (4, True), done.out
        assert again("gate", id_, "--on-inconclusive", "pass").code == 0


def test_a_gate_that_waits_too_long_is_124(shop: Street, again: Here, opened: str) -> None:
    done = shop.till("gate", opened, "--timeout", "300ms", "--output", "json")
    assert (done.code, done.json["exit_code"], done.json["verdict"]) == (124, 124, "watching")
    assert "timed out while open; the verdict falls within" in again("gate", "--timeout", "1ms").out
    assert again("gate", "--timeout", "soon").code == 2


def test_a_gate_that_is_interrupted_is_130(shop: Street, opened: str) -> None:
    verdict, asked = json.dumps(shop.api(f"updates/{opened}/verdict")).encode(), Event()
    with stub(200, verdict, "application/json", asked) as url:
        words = command("--url", url, "gate", opened)
        words = ["env", "--default-signal=INT", *words]       # shells have it ignored by what they start in the background
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True) as waiting:
            assert asked.wait(30), "it has not asked"
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(0.5)
            waiting.send_signal(signal.SIGINT)
            out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out, err.strip()) == (130, "", "tillwatch: interrupted")


def test_no_daemon_is_5(shop: Street) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for words in (["gate"], ["update", "start", "1"], ["report"]):
        done = shop.till("--url", nobody, *words)
        assert (done.code, done.out) == (5, "")
        assert f"no Tillwatch answers at {nobody}" in done.err


@pytest.mark.parametrize(("status", "body", "code"), [
    (401, PROBLEM, 6), (403, PROBLEM, 6), (422, PROBLEM, 3), (502, b"<h1>Bad gateway</h1>", 5), (503, PROBLEM, 5), (504, b"", 5),
    (200, b"<h1>It works!</h1>", 5), (200, b"", 5), (500, PROBLEM, 70)])
@pytest.mark.parametrize("words", [["gate"], ["update", "start", "2"], ["update", "status", "x"]], ids=" ".join)
def test_what_a_server_answers_has_its_exit_code(status: int, body: bytes, code: int, words: list[str], here: Here) -> None:
    with stub(status, body) as url:
        done = here("--url", url, *words)
    assert (done.code, done.out) == (code, ""), done.err
    assert "Traceback" not in done.err
    assert ("not today" in done.err) == (body == PROBLEM)


def test_a_wrong_token_is_6_and_is_not_shown(shop: Street) -> None:
    done = shop.till("update", "start", "2", TILLWATCH_TOKEN="not-this-one")
    assert (done.code, done.out) == (6, "")
    assert "not-this-one" not in done.err


def test_the_daemon_is_found_by_url_alone_and_past_a_proxy(shop: Street, tmp_path: Path) -> None:
    """A CI job knows the address and a token; a proxy in its environment must not get to see them on the way to loopback."""
    here = shop.address | {"http_proxy": f"http://127.0.0.1:{free_port()}", "no_proxy": ""}
    done = till("update", "list", cwd=tmp_path, **here)
    assert (done.code, done.out.startswith("id ")) == (0, True), done.err


# ---- the report


def test_the_report_is_one_file_of_html_or_markdown(shop: Street, again: Here, regressed: dict[str, Any], tmp_path: Path) -> None:
    id_ = regressed["id"]
    done = shop.till("report", id_, cwd=tmp_path)
    assert (done.code, done.out) == (0, f"update-{id_}.html\n")
    page = (tmp_path / f"update-{id_}.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not re.search(r'(src|href)="(?!https?://shop\.example|#)', page), "it needs nothing else"
    assert re.search(r"<(script|link|iframe)\b", page) is None
    done = again("report", id_, "-o", "post-mortem.md")
    assert (done.code, done.out) == (0, "post-mortem.md\n")
    text = (tmp_path / "post-mortem.md").read_text()
    for found in (page, text):
        assert "This update made the shop worse" in found
        assert "rollback by local admin" in found
        assert "payment" in found
        assert "Back to normal after" in found
    assert text.startswith("# kettle")
    assert re.search(r"^\| pay +\| success \| 0 of \d+ failed \| \d+ of \d+ failed \|.*\| worse \|$", text, re.MULTILINE)


def test_a_report_that_cannot_be_written_is_2(again: Here, passed: dict[str, Any], tmp_path: Path) -> None:
    done = again("report", passed["id"], "-o", str(tmp_path / "nowhere" / "x.html"))
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert "nowhere" in done.err
