"""The daily cap and the orders that wait to be cancelled, across restarts and whatever a checkpoint holds."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import probe_model
from monitor.targets import of_device
from probes.checkout.limits import MOST_LOST, MOST_ORDERS, Limits, OneRun

NOON = 20_000 * 86_400.0 + 43_200.0
DAY = 86_400.0
TARGET = ("checkout", "", "")


def again(limits: Limits) -> Limits:
    """After a restart."""
    return Limits.decode(limits.encode())


def test_a_day_has_so_many_runs_and_the_next_day_as_many() -> None:
    limits = Limits.decode(None)
    assert [limits.take(NOON + number, 3) for number in range(5)] == [True, True, True, False, False]
    limits = again(limits)
    assert not limits.take(NOON + 43_199, 3)
    assert limits.take(NOON + 43_200, 3), "midnight, UTC"
    assert limits.runs == 1
    assert again(limits) == limits


def test_a_clock_that_was_a_year_ahead_does_not_stop_it_for_a_year() -> None:
    limits = Limits()
    assert limits.take(NOON + 365 * DAY, 1)
    assert limits.take(NOON, 1)
    assert not limits.take(NOON, 1)


def test_a_lower_cap_counts_at_once() -> None:
    limits = Limits()
    assert all(limits.take(NOON, 10) for _ in range(5))
    assert not again(limits).take(NOON, 5)
    assert again(limits).take(NOON, 6)


def test_a_shop_that_is_down_all_day_is_looked_at_all_day() -> None:
    """It is looked at again soon as long as it is down, and nobody would see it recover once the limit is reached."""
    def settings(**keys: Any) -> Any:
        raw = {"name": "checkout", "kind": "checkout", "url": "http://127.0.0.1", "flow": "flow.py", "interval": "5m", "recheck": "10s"}
        return probe_model("checkout").model_validate(raw | keys, context={"base": Path("/")})
    assert settings().cap >= DAY / 10
    assert settings().again == 10
    few = settings(max_runs_per_day=1000)
    assert DAY / 300 + DAY / few.again == pytest.approx(1000)
    assert settings(max_runs_per_day=288).again == math.inf
    ordering = settings(stop_before="")
    assert (ordering.cap, ordering.again) == (360, math.inf)
    two = settings(devices=["iPhone 15", "Desktop Chrome"], max_runs_per_day=2000)
    assert two.again == few.again == of_device(few, "iPhone 15").again


def test_orders_wait_until_they_are_gone_across_restarts() -> None:
    limits = Limits()
    limits.owe(["1001", "1002", "1001"])
    limits = again(limits)
    limits.owe(["1003", ""])
    assert limits.orders == ["1001", "1002", "1003"]
    limits.settle({"1002": "HTTP 500", "4711": "was never ours"})
    assert again(limits).orders == ["1002"]


def test_they_are_bounded_and_it_is_said_when_some_are_lost() -> None:
    limits = Limits()
    limits.owe(f"order-{number}" for number in range(MOST_ORDERS - 1))
    assert not limits.full
    limits.owe(["x" * 5000])
    assert limits.full
    assert limits.orders[-1] == "x" * 64
    limits.owe(["one", "two"])
    assert (len(limits.orders), limits.dropped, limits.orders[-1]) == (MOST_ORDERS, 2, "two")
    assert len(again(limits).encode()) < 100_000
    assert again(limits) == limits


def test_runs_whose_orders_nobody_knows_are_told_for_a_week() -> None:
    limits = Limits(submitted="a")
    limits.miss({"b": NOON, "c": NOON - 1}, NOON)
    limits = again(limits)
    assert (limits.submitted, limits.lost, list(limits.lost)) == ("a", {"c": NOON - 1, "b": NOON}, ["c", "b"])
    limits.miss({"d": NOON + 6 * DAY}, NOON + 7 * DAY)
    assert list(limits.lost) == ["d"]
    limits.miss({f"run-{number}": NOON + 6 * DAY + number for number in range(50)}, NOON + 7 * DAY)
    assert list(again(limits).lost) == [f"run-{number}" for number in range(50 - MOST_LOST, 50)]


@pytest.mark.parametrize("data", [
    b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b'{"day":"x","runs":-1,"orders":7}', b'{"day":true,"runs":1e400}', b'{"runs":NaN}', b"[" * 100_000,
    b'{"lost":{"a":1e400,"b":"x","c":null,"\\ud800":7},"submitted":["a"]}', b'{"lost":["a"]}',
    b'{"orders":[1,null,{"a":[]},"\\ud800"]}', b'{"runs":' + b"9" * 5000 + b"}", b" " * 10_000_000, json.dumps({"orders": ["x"] * 10_000}).encode()])
def test_garbage_counts_as_nothing_done(data: bytes) -> None:
    limits = Limits.decode(data)
    assert limits.take(NOON, 1)
    assert len(limits.orders) <= 1
    assert again(limits) == limits


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["day", "runs", "orders", "dropped", "submitted", "lost"]) | st.text(), inner)).map(lambda value: json.dumps(value).encode()))
def test_nothing_makes_it_fall_over(data: bytes) -> None:
    limits = Limits.decode(data)
    assert 0 <= limits.runs < 10**9
    assert again(limits) == limits


async def test_by_hand_a_run_submits_once() -> None:
    guard = OneRun()
    assert await guard.take(TARGET, "a", 300.0) == ""
    assert await guard.take(TARGET, "a", 300.0) == "this run has submitted already, and does so once only"
    assert await guard.take(TARGET, "b", 300.0) == ""
    assert await guard.take(("checkout", "iPhone 15", ""), "a", 300.0) == ""
    assert await guard.after(TARGET, "") == {}
