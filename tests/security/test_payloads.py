"""Forty payloads by every text that is not ours, into every form in which it is shown: report, Markdown, mail, chat, push, terminal (T86)."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from email import message_from_bytes, policy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from payloads import ALL, MARK, MARKUP

from monitor import report, terminal
from monitor.alerts import email, ntfy, slack
from monitor.alerts.delivery import Message
from monitor.alerts.page import Delivery, Facts, ShopFacts, compose
from monitor.alerts.table import RECEIVERS
from monitor.incidents import Incident, Member
from monitor.report import Facts as Stored
from monitor.updates import Changed, Update
from probes.scrub import scrub

NOW = 1_790_043_240.0
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def incident(text: str) -> Incident:
    evidence = scrub(text)                           # as a probe hands it on
    member = Member(probe=text[:64], device="", cohort="", reason="status", since=NOW - 60, failed=4, of=4, urgency="page", critical=True,
                    evidence=evidence)
    return Incident(id="01incident", kind="outage", cause="x", urgency="page", opened=NOW - 50, began=NOW - 60, members=(member,), told=True)


def stored(text: str) -> Stored:
    update = Update("2026-09-21-1", text, NOW - 100, text, phase=text, changes=(Changed(text, text),), link="https://shop.example/r")
    found = incident(text)
    return Stored(
        update=update, acts=[{"at": NOW, "act": "started", "by": text, "detail": text}], baselines={},
        flips=[{"at": NOW, "probe": text, "new": "down", "evidence": scrub(text), "reason": "status"}],
        incidents=[(found, [{"at": NOW, "what": "firing", "detail": text}],
                    [{"receiver": text, "kind": "firing", "state": "done", "attempts": 1, "done": NOW}])],
        news=[{"probe": text, "level": "error", "text": text, "first": NOW, "events": 3, "example": text, "changed": text}])


def blamed(text: str) -> Incident:
    """The same as a regression, with a new error in its log that reads like this and lies in a changed part of this name."""
    row = {"probe": text, "device": "", "cohort": "", "signal": text, "test": "novelty", "critical": False, "control": False, "guilty": True,
           "failed_after": None, "evidence": 3.0, "threshold": 2.0, "news": [[f"error:{text} [{text}]", 3.0]]}
    return replace(incident(text), kind="regression", update="2026-09-21-1", version=text, ruling={"sentence": text, "signals": [row]})


def message(text: str) -> Message:
    found = blamed(text)
    facts = Facts(ShopFacts("kettle", "https://shop.example"), base="https://till.example", works=("home",),
                  update=Update("2026-09-21-1", text, NOW - 100, text, phase="all", changes=(Changed(text),)))
    return Message("01m", "firing", found, compose(found, facts, Delivery("hook", "", told=("desk",)), NOW))


def settings(kind: str, **values: Any) -> Any:
    return RECEIVERS[kind].settings.model_validate({"name": kind, "kind": kind} | values, context={"base": Path("/")})


class _Tags(HTMLParser):
    """Every tag with its attributes' names, and every address that is linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags |= {tag, *(f"{tag}@{name}" for name, _ in attrs)}
        self.links |= {value or "" for name, value in attrs if name in {"href", "src", "action", "srcdoc"}}


def tags(page: str) -> _Tags:
    found = _Tags()
    found.feed(page)
    found.close()
    return found


@pytest.mark.parametrize("number", range(len(ALL)))
def test_a_report_has_no_tag_that_is_not_its_own(number: int) -> None:
    harmless, page = (tags(report.html(stored(text), text, NOW)) for text in ("harmless", ALL[number]))
    assert page.tags == harmless.tags
    assert page.links == harmless.links == {"https://shop.example/r"}
    assert "script" not in page.tags


@pytest.mark.parametrize("number", range(len(ALL)))
def test_markdown_stays_text(number: int) -> None:
    page, harmless = (report.markdown(stored(text), text, NOW) for text in (ALL[number], "harmless"))
    bare = re.sub(r"\\.", "", page)                              # what is escaped means nothing
    assert not re.search(r"<[a-zA-Z/!]", bare.replace("<https://shop.example/r>", ""))
    assert "](" not in bare
    assert "@channel" not in bare
    assert page.count("\n") == harmless.count("\n"), "no line begins that is not ours"
    assert [line.count("|") for line in bare.splitlines()] == [line.count("|") for line in harmless.splitlines()]


@pytest.mark.parametrize("number", range(len(ALL)))
def test_a_mail_has_its_own_headers_and_is_plain_text(number: int) -> None:
    how = settings("email", host="127.0.0.1", tls="none", to=["oncall@shop.example"], **{"from": "till@shop.example"})
    harmless, found = (message_from_bytes(email.compose(how, message(text)).as_bytes(), policy=policy.default) for text in ("harmless", ALL[number]))
    assert found.keys() == harmless.keys()
    assert found["To"] == "oncall@shop.example"
    assert found.get_content_type() == "text/plain"
    assert not CONTROLS.search(str(found["Subject"]))
    assert not CONTROLS.search(found.get_content().replace("\r\n", "\n"))


@pytest.mark.parametrize("number", range(len(ALL)))
def test_a_chat_wakes_nobody_and_links_nowhere(number: int) -> None:
    said = slack.text(message(ALL[number]))
    assert not re.search(r"<[!@#h]", said)
    assert "<" not in said
    assert ">" not in said
    assert not CONTROLS.search(said)


@pytest.mark.parametrize("number", range(len(ALL)))
def test_a_push_message_is_json_and_shows_its_text(number: int) -> None:
    said = json.loads(ntfy.body(message(ALL[number]), "topic"))
    assert said.get("click", "").startswith("https://till.example")
    assert "actions" not in said
    assert "attach" not in said
    assert not CONTROLS.search(said["title"] + said["message"])


@pytest.mark.parametrize("number", range(len(ALL)))
def test_a_terminal_is_shown_text_only(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = ALL[number]
    update = {"id": "2026-09-21-1", "version": text, "started": NOW, "status": "open", "phase": text, "verdict": "pass", "by": text, "sentence": text,
              "missing": [text], "signals": [], "acts": [{"at": NOW, "act": "started", "by": text, "detail": text}]}
    found = incident(text)
    shown = {**found.to_dict(), "version": text, "said": text}
    terminal.updates([update])
    terminal.status(update)
    terminal.incidents([shown])
    terminal.silences([{"id": "s1", "active": True, "ends": NOW, "ended": None, "probes": [text], "reason": text, "by": text, "ended_by": ""}])
    said = capsys.readouterr().out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said), repr(said)
    if text.startswith("[bold red]"):
        assert text in said


# ---- in a browser

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: that nothing is executed is tested by parsing only")
def test_no_payload_is_executed_in_a_browser(tmp_path: Path) -> None:
    """All at once, in a saved file (no header protects it there); and a page that does execute shows that the test could fail."""
    many = [stored(text) for text in MARKUP]
    whole = replace(many[0], news=[row for one in many for row in one.news], acts=[act for one in many for act in one.acts],
                    flips=[flip for one in many for flip in one.flips],
                    incidents=[found for one in many for found in one.incidents])
    pages = {"report": report.html(whole, "".join(MARKUP), NOW), "bad": f"<title>x</title>{MARKUP[0]}"}
    for name, page in pages.items():
        (tmp_path / f"{name}.html").write_text(page, encoding="utf-8", errors="replace")
    assert BROWSER
    dumped = {name: _dump(BROWSER, tmp_path / f"{name}.html", tmp_path / f"profile-{name}") for name in pages}
    assert f"<title>{MARK}</title>" in dumped["bad"]
    assert f"<title>{MARK}</title>" not in dumped["report"]
    assert "<script" not in dumped["report"]
    assert "What was compared" in dumped["report"]


def _dump(browser: str, page: Path, profile: Path) -> str:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--virtual-time-budget=2000", "--dump-dom",
               page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout
