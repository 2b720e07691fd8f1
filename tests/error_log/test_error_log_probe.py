"""One run of an error_log probe, and what it remembers."""

import asyncio
import math
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from monitor.settings import probe_model
from monitor.targets import job
from probes.clients import Clients
from probes.error_log.probe import probe
from probes.error_log.settings import ErrorLogSettings
from probes.error_log.tail import Tail
from probes.sample import Outcome, Sample

TRACE = """\
2026-11-27 18:00:00,000 ERROR [kettle.pages] POST /checkout/payment failed
Traceback (most recent call last):
  File "/srv/kettle/checkout.py", line 61, in pay
    reference = await payment.charge(card)
  File "/srv/kettle/payment_gateway.py", line 31, in _reference
    challenge = answer["three_ds"]
KeyError: 'three_ds'
"""
KEY_ERROR = "error:KeyError: 'three_ds' in payment_gateway.py _reference [payment_gateway]"


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with Clients() as shared:
        yield shared


def settings(*paths: Path, **more: Any) -> ErrorLogSettings:
    return ErrorLogSettings.model_validate({"name": "log", "timeout": "40s", "paths": [str(path) for path in paths], "begin": "beginning", **more})


def written(path: Path, text: str, ago: float = 2.0) -> Path:
    """The file with more text, last changed some seconds ago: its last event is over."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    os.utime(path, (time.time() - ago, time.time() - ago))
    return path


async def test_a_new_error_is_counted_named_and_shown(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "shop.log", "2026-11-27 17:59:59,000 INFO [kettle] up\n" + TRACE)
    sample = await probe(settings(log), clients, None)
    assert (sample.outcome, sample.counts["lines"], sample.counts["events/error"], sample.counts["new_signatures"]) == (Outcome.OK, 8, 1, 1)
    assert sample.counts[f"signature/{KEY_ERROR}"] == 1
    assert "KeyError: 'three_ds'" in sample.examples[KEY_ERROR]
    assert "KeyError" in sample.evidence


async def test_a_run_goes_on_where_the_accepted_one_before_ended(clients: Clients, tmp_path: Path) -> None:
    log, first = written(tmp_path / "shop.log", TRACE), None
    first = await probe(settings(log), clients, None)
    written(log, TRACE)
    second = await probe(settings(log), clients, first.checkpoint)
    again = await probe(settings(log), clients, first.checkpoint)          # the one before was not accepted
    assert (second.counts["lines"], second.counts["events/error"], second.counts["new_signatures"]) == (7, 1, 0)
    assert again.counts == second.counts
    assert again.examples == {}


async def test_nothing_is_lost_when_all_that_is_kept_open_is(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "shop.log", TRACE)
    first = await probe(settings(log), clients, None)
    written(log, TRACE)
    await clients.retain(())
    second = await probe(settings(log), clients, first.checkpoint)
    assert (second.counts["lines"], second.counts["new_signatures"]) == (7, 0)


async def test_an_event_that_is_being_written_waits_for_its_end(clients: Clients, tmp_path: Path) -> None:
    half = TRACE.index("KeyError")
    log = written(tmp_path / "shop.log", TRACE[:half], ago=-60.0)       # being written, however long the machine takes to look
    first = await probe(settings(log), clients, None)
    written(log, TRACE[half:])
    second = await probe(settings(log), clients, first.checkpoint)
    assert (first.counts["events/error"], second.counts["events/error"]) == (0, 1)
    assert second.counts[f"signature/{KEY_ERROR}"] == 1


async def test_a_log_that_is_not_there_yet_is_no_fault_but_a_missing_folder_is(clients: Clients, tmp_path: Path) -> None:
    later = await probe(settings(tmp_path / "debug.log"), clients, None)
    assert (later.outcome, later.facts["log_files"]) == (Outcome.OK, 0)
    missing = await probe(settings(tmp_path / "nowhere" / "debug.log"), clients, None)
    assert (missing.outcome, missing.reason) == (Outcome.BROKEN, "log_unreadable")
    assert "nowhere" in missing.evidence


async def test_only_a_limit_of_the_owner_makes_a_run_fail(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "shop.log", TRACE * 3)
    allowed = await probe(settings(log, max_events={"error": 3}), clients, None)
    failed = await probe(settings(log, max_events={"error": 2}), clients, None)
    assert (allowed.outcome, failed.outcome, failed.reason) == (Outcome.OK, Outcome.FAILED, "errors")
    assert failed.evidence.startswith("3 of level error: ")
    assert "KeyError" in failed.evidence


async def test_less_than_the_least_level_is_not_counted(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "shop.log", "2026-11-27 18:00:00,000 WARNING [kettle] slow\n" + TRACE)
    sample = await probe(settings(log, level="critical"), clients, None)
    assert {level: sample.counts[f"events/{level}"] for level in ("critical", "error", "warning")} == {"critical": 0, "error": 0, "warning": 0}


async def test_an_access_log_gives_the_requests(clients: Clients, tmp_path: Path) -> None:
    line = '198.51.100.7 - - [27/Nov/2026:18:00:00 +0000] "{} {} HTTP/1.1" {} 120 "-" "curl/8" {}\n'
    log = written(tmp_path / "access.log", "".join((
        line.format("GET", "/", 200, "0.010"), line.format("GET", "/product/sencha", 200, "3.500"),
        line.format("POST", "/checkout/payment", 502, "0.020"), line.format("POST", "/checkout/payment", 200, "0.020"))))
    counts = (await probe(settings(log), clients, None)).counts
    expected = {"requests": 4, "requests/checkout": 2, "requests/catalogue": 1, "requests/other": 1, "server_errors": 1, "server_errors/checkout": 1,
                "server_errors/other": 0, "slow": 1, "slow/catalogue": 1, "checkout_posts": 2, "failed_checkout_posts": 1, "events/error": 1}
    assert {name: counts.get(name) for name in expected} == expected


@pytest.mark.parametrize("personal", [
    "4242 4242 4242 4242", "5555-5555-5555-4444", "jane.doe@example.org", "198.51.100.77", "2001:db8::77", "+49 170 1234567",
    "password=hunter2hunter2", "Bearer abcdefghijklmnop", "sk_live_abcdefghijklmnop", "Cookie: PHPSESSID=0123456789abcdef",
])
async def test_nothing_secret_or_personal_leaves_the_probe(clients: Clients, tmp_path: Path, personal: str) -> None:
    log = written(tmp_path / "shop.log", f"2026-11-27 18:00:00,000 ERROR [pay] declined for {personal} <script>alert(1)</script> @channel\n")
    sample = await probe(settings(log, max_events={"error": 0}), clients, None)
    told = repr((sample.counts, sample.examples, sample.evidence))
    assert sample.counts["events/error"] == 1
    value = personal.rsplit("=", 1)[-1].removeprefix("Bearer ")
    assert value not in told
    assert value.replace(" ", "").replace("-", "") not in told


async def test_storage_that_hangs_is_a_fault_of_ours_and_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, go_on, read = written(tmp_path / "shop.log", TRACE), threading.Event(), Tail.read
    before = set(threading.enumerate())

    def hang(*given: Any) -> Any:
        go_on.wait(50)
        return read(*given)
    monkeypatch.setattr(Tail, "read", hang)                        # a file server that is gone: open() does not come back
    async with Clients() as clients:
        stuck = await probe(settings(log, timeout="100ms"), clients, None)
        still = await probe(settings(log, timeout="100ms"), clients, None)
        readers = [thread for thread in threading.enumerate() if thread.name == "error_log" and thread not in before]
        go_on.set()
        while True:
            await asyncio.sleep(0.01)
            back = await probe(settings(log, timeout="100ms"), clients, None)
            if back.outcome is Outcome.OK:
                break
    assert [(s.outcome, s.reason, s.checkpoint) for s in (stuck, still)] == [(Outcome.BROKEN, "log_unreadable", None)] * 2
    assert back.counts["lines"] == 7
    assert len(readers) == 1                                       # the second run did not start a second thread


async def test_other_settings_begin_with_other_scanners(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "shop.log", TRACE)
    first = await probe(settings(log), clients, None)
    written(log, "!! sync aborted\n")
    second = await probe(settings(log, pattern="^!!"), clients, first.checkpoint)
    assert (second.counts["lines"], second.counts["events/error"]) == (1, 1)


def test_lines_are_read_once_so_a_failed_run_is_not_repeated_soon() -> None:
    configured = probe_model("error_log").model_validate({"name": "log", "kind": "error_log", "paths": ["/var/log/shop.log"]})
    planned = job(("log", "", ""), configured, 0.25)
    assert (planned.interval, planned.timeout, planned.recheck, planned.fast) == (5.0, 4.0, math.inf, 5.0)


async def test_a_checkpoint_that_nobody_can_read_begins_anew(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "shop.log", TRACE)
    sample: Sample = await probe(settings(log), clients, b"garbage")
    assert sample.counts["lines"] == 7


async def test_a_path_relative_to_where_the_daemon_was_started(clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "shop.log", TRACE)
    sample = await probe(settings(Path("*.log")), clients, None)
    assert (sample.facts["log_files"], sample.counts["lines"]) == (1, 7)


async def test_a_program_that_logs_otherwise_since_the_update_is_still_understood(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "shop.log", "2026-11-27 18:00:00,000 INFO [shop.orders] an order was placed and paid\n" * 200)
    first = await probe(settings(log), clients, None)
    written(log, '{"level":"error","message":"payment is down","time":1}\n' * 5)
    second = await probe(settings(log), clients, first.checkpoint)
    written(log, "2026-11-27 18:10:00,000 ERROR [shop.orders] out of stock\n")
    third = await probe(settings(log), clients, second.checkpoint)
    assert [sample.counts["events/error"] for sample in (first, second, third)] == [0, 5, 1]


async def test_what_can_be_read_counts_although_something_cannot(clients: Clients, tmp_path: Path) -> None:
    written(tmp_path / "shop.log", TRACE)
    (tmp_path / "gone.log").symlink_to(tmp_path / "nowhere" / "gone.log")
    sample = await probe(settings(tmp_path / "*.log"), clients, None)
    assert (sample.outcome, sample.counts["events/error"], sample.facts["log_problems"]) == (Outcome.OK, 1, 1)
    assert sample.evidence.startswith("cannot be read: ")
    assert "gone.log" in sample.evidence


async def test_magentos_exceptions_have_their_class_function_and_module(clients: Clients, tmp_path: Path) -> None:
    log = written(tmp_path / "exception.log", """\
[2026-11-27T18:00:01.000000+00:00] main.CRITICAL: Magento\\Framework\\Exception\\LocalizedException: Payment declined in \
/var/www/shop/vendor/acme/module-payment/Model/Gateway.php:33
Stack trace:
#0 /var/www/shop/vendor/magento/module-payment/Model/Method/Adapter.php(301): Acme\\Payment\\Model\\Gateway->capture()
#1 {main} [] []
[2026-11-27T18:00:02.000000+00:00] main.ERROR: Warning: Undefined array key "coupon" in \
/var/www/shop/vendor/magento/module-sales/Model/Totals.php on line 52 [] []
""")
    counts = (await probe(settings(log), clients, None)).counts
    assert {name for name in counts if name.startswith("signature/")} == {
        "signature/critical:LocalizedException: Payment declined in Gateway.capture [acme/module-payment]",
        'signature/error:Warning: Undefined array key "coupon" [magento/module-sales]'}
