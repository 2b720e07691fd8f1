"""`tillwatch gate`: wait for a verdict and say it so that a CI job understands. It fails closed."""

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import click

from monitor import client as api
from monitor.client import Client, CommandError
from monitor.clock import span
from probes.fields import parse_duration

SLACK_SECONDS = 300.0
POLL_SECONDS = (0.25, 5.0)      # from eager to patient
MAY_BE_AWAY_SECONDS = 30.0      # a daemon that restarts keeps its updates


def wait(client: Client, id_: str, *, timeout: str, lenient: bool, output: str) -> int:
    """Wait for the verdict of the update, print it, and give the exit code."""
    verdict = _first(client, id_)
    end = time.monotonic() + _limit(verdict, timeout)
    say = _progress(verdict)
    pause = POLL_SECONDS[0]
    while (code := decide(verdict, lenient=lenient)) is None:
        if time.monotonic() >= end:
            _print(output, verdict, api.TIMED_OUT)
            return api.TIMED_OUT
        say(verdict)
        time.sleep(min(pause, max(0.0, end - time.monotonic())))
        pause = min(pause * 1.2, POLL_SECONDS[1])
        verdict = _again(client, verdict["id"])
    _print(output, verdict, code)
    return code


def decide(verdict: dict[str, Any], *, lenient: bool) -> int | None:
    """The exit code that this verdict means; None while there is nothing to say yet."""
    if verdict["status"] == "refused":
        return api.REFUSED
    if verdict["verdict"] == "regression":
        return api.BAD
    if verdict["verdict"] == "pass":
        return 0
    if verdict.get("rolled_back") or verdict["status"] == "recovering":
        return api.INCONCLUSIVE                  # what was taken back is nothing to go on with, however lenient
    if verdict["verdict"] == "inconclusive" or verdict["status"] in {"cancelled", "closed"}:
        return 0 if lenient else api.INCONCLUSIVE
    return None


def _first(client: Client, id_: str) -> dict[str, Any]:
    return dict(client.get(api.update_path(id_, "/verdict")))


def _again(client: Client, id_: str) -> dict[str, Any]:
    end = time.monotonic() + MAY_BE_AWAY_SECONDS
    while True:
        try:
            return _first(client, id_)
        except CommandError as error:
            if error.code != api.UNREACHABLE or time.monotonic() >= end:
                raise
            time.sleep(1.0)


def _limit(verdict: dict[str, Any], timeout: str) -> float:
    if timeout:
        try:
            return parse_duration(timeout)
        except ValueError as error:
            raise CommandError(api.USAGE, f"--timeout: {error}") from None
    return max(0.0, (verdict["decided_by"] or time.time()) - time.time()) + SLACK_SECONDS


def _progress(first: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """A line on stderr whenever there is something new to say."""
    shown = [""]

    def say(verdict: dict[str, Any]) -> None:
        missing = "; ".join(verdict["missing"][:3])
        line = f"{first['id']} ({first['version']}): {verdict['status']}, {verdict['sentence'] or 'watching'}" + (f" [{missing}]" if missing else "")
        if sys.stderr.isatty() and line != shown[0]:
            shown[0] = line
            click.echo(line, err=True)
    return say


def _print(output: str, verdict: dict[str, Any], code: int) -> None:
    click.echo({"table": _text, "json": _json, "junit": _junit, "github": _github}[output](verdict, code))


def _text(verdict: dict[str, Any], code: int) -> str:
    lines = [f"{verdict['id']} ({verdict['version']}): {_word(verdict, code)}"]
    lines += [verdict["sentence"]] if verdict["sentence"] else []
    return "\n".join(lines + [f"  still missing: {missing}" for missing in verdict["missing"]])


def _json(verdict: dict[str, Any], code: int) -> str:
    return json.dumps(verdict | {"exit_code": code}, indent=2, ensure_ascii=False)


def _junit(verdict: dict[str, Any], code: int) -> str:
    name = quoteattr(_xml(f"update {verdict['version']}"))
    problem = "" if code == 0 else f"<failure message={quoteattr(_word(verdict, code))}>{escape(_xml(verdict['sentence']))}</failure>"
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="tillwatch" tests="1" failures="{int(code != 0)}">'
            f'<testcase classname="tillwatch.gate" name={name}>{problem}</testcase></testsuite>')


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _github(verdict: dict[str, Any], code: int) -> str:
    """Workflow commands: one annotation, its line breaks and percent signs escaped."""
    text = (verdict["sentence"] or "no word yet").replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    level = "notice" if code == 0 else "error"
    title = f"Tillwatch: {_word(verdict, code)}".replace("%", "%25").replace(",", "%2C").replace(":", "%3A")
    return f"::{level} title={title}::{text}"


def _word(verdict: dict[str, Any], code: int) -> str:
    if code == api.TIMED_OUT:
        left = (verdict["decided_by"] or time.time()) - time.time()
        return f"timed out while {verdict['status']}" + (f"; the verdict falls within {span(left)}" if left > 0 else "")
    return str(verdict["status"] if verdict["verdict"] == "watching" else verdict["verdict"])
