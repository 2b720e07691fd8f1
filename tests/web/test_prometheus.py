"""A real Prometheus scrapes the real daemon."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
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
interval = "250ms"
timeout = "200ms"
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
global: {{scrape_interval: 250ms}}
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
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def until(answer: Callable[[], Any], *logs: Path) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if found := answer():
                return found
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    pytest.fail("no answer in time\n" + "\n".join(log.read_text()[-2000:] for log in logs))


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return bytes(answer.read())


def ask(port: int, query: str) -> list[dict[str, Any]]:
    return list(json.loads(get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": query})))["data"]["result"])


@pytest.mark.timeout(60)
def test_prometheus_scrapes_the_daemon_and_answers_for_it(tmp_path: Path) -> None:
    shop, daemon, prometheus = free_port(), free_port(), free_port()
    config, scrapes = tmp_path / "config.toml", tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(shop=shop, daemon=daemon))
    scrapes.write_text(SCRAPES.format(daemon=daemon))
    ours, theirs = tmp_path / "daemon.log", tmp_path / "prometheus.log"
    serve = ["prometheus", f"--config.file={scrapes}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{prometheus}"]
    watch = [sys.executable, "-m", "monitor", "-c", str(config), "run"]
    with running(watch, ours) as process, running(serve, theirs):
        until(lambda: len(ask(prometheus, "probe_success")) == 2, ours, theirs)
        found = {row["metric"]["probe"]: (row["metric"], row["value"][1]) for row in ask(prometheus, "probe_success")}
        assert {probe: value for probe, (_, value) in found.items()} == {"home": "1", "nobody listens": "0"}
        assert found["home"][0] == {
            "__name__": "probe_success", "shop": "till", "probe": "home", "job": "tillwatch", "instance": f"127.0.0.1:{daemon}"}
        assert until(lambda: ask(prometheus, "up == 1"), theirs)
        refused = ask(prometheus, 'tillwatch_probe_failures_total{reason="connect_refused", probe="nobody listens"} > 0')
        assert len(refused) == 1
        quantile = "histogram_quantile(0.5, sum by (le) (probe_all_duration_seconds_bucket))"
        assert 0 < float(until(lambda: ask(prometheus, quantile), theirs)[0]["value"][1]) < 1
        targets = json.loads(get(prometheus, "/api/v1/targets"))["data"]["activeTargets"]
        assert [t["lastError"] for t in targets] == [""]
    assert process.returncode == 0
    assert (tmp_path / "state" / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
