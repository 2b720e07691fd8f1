"""`tillwatch logs scan`: the error signatures of files that are there."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

from monitor.config import load
from monitor.doctor.logs import logs
from monitor.doctor.network import Reach
from probes.clients import Clients

LINES = """\
[2026-11-27T18:00:00.000000+00:00] main.INFO: Cart updated [] []
[2026-11-27T18:00:01.000000+00:00] main.ERROR: Payment of jane@example.org for order 100012345 declined [] []
[2026-11-27T18:00:02.000000+00:00] main.ERROR: Payment of joe@example.org for order 100012346 declined [] []
[2026-11-27T18:00:03.000000+00:00] main.CRITICAL: Deadlock found when trying to get lock [] []
"""


def scan(*words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", "logs", "scan", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, input=given)


def test_signatures_are_listed_with_the_worst_first(tmp_path: Path) -> None:
    (tmp_path / "exception.log").write_text(LINES)
    (tmp_path / "exception.log.1.gz").write_bytes(gzip.compress(LINES.encode()))
    done = scan(tmp_path / "exception.log", tmp_path / "exception.log.1.gz", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(file["format"], file["lines"], file["events"]) for file in found["files"]] == [("monolog", 4, 3)] * 2
    assert found["events"] == {"critical": 2, "error": 4, "warning": 0}
    assert [(s["level"], s["count"]) for s in found["signatures"]] == [("critical", 2), ("error", 4)]
    assert found["signatures"][1]["signature"].startswith("Payment of ")
    assert "example.org" not in done.stdout
    assert "100012345" not in found["signatures"][1]["signature"]


def test_people_get_a_table(tmp_path: Path) -> None:
    (tmp_path / "exception.log").write_text(LINES)
    done = scan(tmp_path / "exception.log", "--examples", "--most", "1")
    assert done.returncode == 0
    assert "monolog, 4 lines, 3 events" in done.stdout
    assert "Deadlock found" in done.stdout
    assert "Payment" not in done.stdout
    assert "1 more" in done.stdout


def test_standard_input_is_read_and_a_log_without_errors_has_none() -> None:
    assert "No errors found" in scan("-", given=LINES.splitlines(keepends=True)[0]).stdout
    assert "2 events" not in scan("-", "--level", "critical", given=LINES).stdout


def test_a_file_that_cannot_be_read_is_2_and_named(tmp_path: Path) -> None:
    missing = scan(tmp_path / "nowhere.log")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "nowhere.log" in missing.stderr
    torn = tmp_path / "torn.log.gz"
    torn.write_bytes(gzip.compress(LINES.encode() * 1000)[:40] + b"\xff" * 400)
    assert scan(torn).returncode == 2
    assert 'there is no format "ngnix"' in scan(tmp_path / "nowhere.log", "--format", "ngnix").stderr


def test_an_event_longer_than_a_slice_is_one_event(tmp_path: Path) -> None:
    frames = "".join(f'  File "/srv/shop/app.py", line {n}, in step_{n}\n    call()\n' for n in range(100))
    trace = f"2026-11-27 18:00:00,000 ERROR [shop] failed\nTraceback (most recent call last):\n{frames}KeyError: 'basket'\n"
    (tmp_path / "shop.log").write_text(trace * 600)                  # 4 MB, in slices of 1 MiB
    found = json.loads(scan(tmp_path / "shop.log", "--json").stdout)
    assert found["events"]["error"] == 600
    assert found["files"][0]["lines"] == trace.count("\n") * 600


async def test_the_doctor_looks_whether_logs_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "here.log").write_text(LINES)
    kinds = {"here": "here.log", "later": "debug.log", "nowhere": "nowhere/debug.log"}
    probes = "".join(f'[[probe]]\nname = "{name}"\nkind = "error_log"\npaths = ["{path}"]\n' for name, path in kinds.items())
    (tmp_path / "config.toml").write_text(f'[shop]\nname = "till"\nurl = "http://127.0.0.1:9/"\n{probes}')
    async with Clients() as clients:
        found = {finding.check: finding async for finding in logs(load(tmp_path / "config.toml"), Reach(clients))}
    assert {check: finding.result for check, finding in found.items()} == {'log "here"': "ok", 'log "later"': "warning", 'log "nowhere"': "fault"}
    assert "nowhere" in found['log "nowhere"'].says
