"""What a verdict means to a CI job, without a daemon."""

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from monitor import gate
from monitor.client import Client, CommandError

VERDICTS = ("watching", "pass", "regression", "inconclusive")
STATUSES = ("open", "observing", "recovering", "closed", "cancelled", "refused")
FACTS = {"id": "2026-09-21-1", "version": "2.0", "status": "open", "phase": "all", "verdict": "watching", "pass": None, "sentence": "", "missing": [],
         "decided_by": None, "reason": ""}


@pytest.mark.parametrize(("verdict", "status", "strict", "lenient"), [
    ("watching", "open", None, None),
    ("watching", "observing", None, None),
    ("watching", "recovering", 4, 4),
    ("watching", "cancelled", 4, 0),
    ("watching", "closed", 4, 0),
    ("watching", "refused", 3, 3),
    ("inconclusive", "closed", 4, 0),
    ("pass", "closed", 0, 0),
    ("regression", "open", 1, 1),
    ("regression", "recovering", 1, 1),
    ("regression", "cancelled", 1, 1),
    ("regression", "closed", 1, 1),
])
def test_a_verdict_has_one_exit_code(verdict: str, status: str, strict: int | None, lenient: int | None) -> None:
    given = {"verdict": verdict, "status": status, "rolled_back": None}
    assert (gate.decide(given, lenient=False), gate.decide(given, lenient=True)) == (strict, lenient)


def test_what_was_rolled_back_lets_no_pipeline_go_on_however_lenient() -> None:
    given = {"verdict": "inconclusive", "status": "closed", "rolled_back": 1.0}
    assert (gate.decide(given, lenient=False), gate.decide(given, lenient=True)) == (4, 4)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("status", STATUSES)
def test_only_a_pass_opens_the_gate_unless_it_was_told_otherwise(verdict: str, status: str) -> None:
    """It fails closed."""
    given = {"verdict": verdict, "status": status}
    strict, lenient = gate.decide(given, lenient=False), gate.decide(given, lenient=True)
    assert (strict == 0) == (verdict == "pass" and status != "refused")
    assert lenient == strict or (strict, lenient) == (4, 0)
    assert not (lenient == 0 and verdict == "regression")


class Answers(Client):
    """A daemon that says one thing after the other; a number is the exit code of an error."""

    def __init__(self, *answers: dict[str, Any] | int) -> None:
        super().__init__("http://nowhere", "")
        self.answers = list(answers)

    def get(self, path: str) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise CommandError(answer, "no")
        return FACTS | answer


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr("monitor.gate.time.sleep", pauses.append)
    return pauses


def test_it_waits_until_there_is_a_verdict_and_grows_patient(no_pause: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    client = Answers(*[{}] * 30, {"verdict": "pass", "status": "closed"})
    assert gate.wait(client, "newest", timeout="1h", lenient=False, output="json") == 0
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0
    assert no_pause == sorted(no_pause)
    assert no_pause[0] == 0.25
    assert no_pause[-1] == 5.0


def test_a_daemon_that_restarts_is_waited_for(no_pause: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    client = Answers({}, 5, 5, {"verdict": "regression"})
    assert gate.wait(client, "newest", timeout="1h", lenient=True, output="table") == 1
    assert "regression" in capsys.readouterr().out


@pytest.mark.parametrize("code", [6, 7, 70])
def test_other_errors_end_the_wait(no_pause: list[float], code: int) -> None:
    with pytest.raises(CommandError) as error:
        gate.wait(Answers({}, code), "newest", timeout="1h", lenient=True, output="table")
    assert error.value.code == code


def test_a_daemon_that_never_was_there_is_not_waited_for(no_pause: list[float]) -> None:
    with pytest.raises(CommandError) as error:
        gate.wait(Answers(5), "newest", timeout="1h", lenient=True, output="table")
    assert (error.value.code, no_pause) == (5, [])


@pytest.mark.parametrize("timeout", ["x", "5", "-1s"])
def test_a_timeout_that_is_none_is_a_usage_error(timeout: str) -> None:
    with pytest.raises(CommandError) as error:
        gate.wait(Answers({}), "newest", timeout=timeout, lenient=False, output="table")
    assert error.value.code == 2


NASTY = 'pay & <home> "failed" 100%\nof 3]]> runs: ::error::'


@pytest.mark.parametrize(("code", "failures"), [(0, "0"), (1, "1"), (4, "1"), (124, "1")])
def test_junit_is_xml_whatever_the_sentence(code: int, failures: str) -> None:
    suite = ET.fromstring(gate._junit(FACTS | {"sentence": NASTY, "version": '2.0"<&'}, code))
    (case,) = suite
    assert (suite.tag, suite.get("failures"), case.get("name")) == ("testsuite", failures, 'update 2.0"<&')
    assert [f.text for f in case] == ([NASTY] if code else [])


@pytest.mark.parametrize("sentence", ["bell \x07 and \x00", "half a pair \ud800"])
def test_junit_is_xml_even_with_characters_that_xml_has_not(sentence: str) -> None:
    assert ET.fromstring(gate._junit(FACTS | {"sentence": sentence}, 1)) is not None


@pytest.mark.parametrize(("code", "level"), [(0, "notice"), (1, "error"), (4, "error")])
def test_a_github_annotation_is_one_line(code: int, level: str) -> None:
    text = gate._github(FACTS | {"verdict": "regression", "sentence": NASTY}, code)
    assert "\n" not in text
    assert text.startswith(f"::{level} title=Tillwatch%3A regression::pay & <home>")
    assert "100%25%0Aof" in text
