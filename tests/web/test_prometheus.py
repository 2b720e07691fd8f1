"""A real Prometheus scrapes the real daemon."""

import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import free_port

CONFIG = """\
[shop]
name = "till"
url = "http://127.0.0.1:{shop}"
[web]
listen = "127.0.0.1:{daemon}"
[defaults]
interval = "1s"
timeout = "1s"
[[probe]]
name = "home"
kind = "http"
url = "http://127.0.0.1:{daemon}/-/healthy"
[[probe]]
name = "nobody listens"
kind = "http"
url = "http://127.0.0.1:{shop}/"
"""
SCRAPES = """\
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: tillwatch, static_configs: [{{targets: ["127.0.0.1:{daemon}"]}}]}}]
"""


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def until(answer: Callable[[], Any], *logs: Path) -> Any:
    """Asked again and again: one scrape that comes late leaves a gap behind it."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        try:
            if found := answer():
                return found
        except (OSError, http.client.HTTPException):         # it is not there yet, or has no time
            pass
        time.sleep(0.1)
    pytest.fail("no answer in time\n" + "\n".join(log.read_text()[-2000:] for log in logs))


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return bytes(answer.read())


def ask(port: int, query: str) -> list[dict[str, Any]]:
    return list(json.loads(get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": query})))["data"]["result"])


def success(port: int) -> dict[str, str]:
    """By probe, as Prometheus tells it."""
    return {row["metric"]["probe"]: row["value"][1] for row in ask(port, "probe_success")}


def errors(port: int) -> list[str]:
    """Of each target, what went wrong at its last scrape."""
    return [target["lastError"] for target in json.loads(get(port, "/api/v1/targets"))["data"]["activeTargets"]]


@pytest.mark.timeout(120)
def test_prometheus_scrapes_the_daemon_and_answers_for_it(tmp_path: Path) -> None:
    shop, daemon, prometheus = free_port(), free_port(), free_port()
    config, scrapes = tmp_path / "config.toml", tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(shop=shop, daemon=daemon))
    scrapes.write_text(SCRAPES.format(daemon=daemon))
    ours, theirs = tmp_path / "daemon.log", tmp_path / "prometheus.log"
    serve = ["prometheus", f"--config.file={scrapes}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{prometheus}"]
    watch = [sys.executable, "-m", "monitor", "-c", str(config), "run"]
    with running(watch, ours) as process, running(serve, theirs):
        until(lambda: success(prometheus) == {"home": "1", "nobody listens": "0"}, ours, theirs)
        row = until(lambda: ask(prometheus, 'probe_success{probe="home"}'), ours, theirs)[0]
        assert row["metric"] == {
            "__name__": "probe_success", "shop": "till", "probe": "home", "job": "tillwatch", "instance": f"127.0.0.1:{daemon}"}
        until(lambda: ask(prometheus, "up == 1"), ours, theirs)
        refused = 'tillwatch_probe_failures_total{reason="connect_refused", probe="nobody listens"} > 0'
        until(lambda: len(ask(prometheus, refused)) == 1, ours, theirs)
        quantile = "histogram_quantile(0.5, sum by (le) (probe_all_duration_seconds_bucket))"
        until(lambda: ask(prometheus, f"{quantile} > 0 < 1"), ours, theirs)
        until(lambda: errors(prometheus) == [""], ours, theirs)
    assert process.returncode == 0
    assert (tmp_path / "state" / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
