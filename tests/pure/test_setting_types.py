"""Durations, sizes, secrets; the clock and how it speaks."""

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monitor import clock
from probes.fields import Secret, SecretError, SecretField, Table, parse_duration, parse_size, show_duration


@given(st.one_of(st.integers(0, 999_999).map(float), st.integers(0, 3650).map(lambda d: d * 86400.0), st.integers(1, 999).map(lambda ms: ms / 1000)))
def test_a_duration_that_is_shown_reads_back_as_itself(seconds):
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(("text", "seconds"), [
    ("250ms", 0.25), ("30s", 30), ("5m", 300), ("24h", 86400), ("14d", 14 * 86400), ("2w", 14 * 86400), ("1h30m", 5400), ("1.5s", 1.5), ("0s", 0)])
def test_durations_are_read_in_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "5 s", "5S", "5sec", "1e3s", "5s ", "5s,3s", ".5s", 30, 30.0, True, None, ["5s"]])
def test_a_duration_without_a_unit_is_refused(text):
    with pytest.raises(ValueError, match="with its unit"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [
    ("0B", 0), ("500kB", 500_000), ("2MB", 2_000_000), ("1.5 GB", 1_500_000_000), ("2MiB", 2 << 20), ("1KiB", 1024)])
def test_sizes_are_read_in_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "2", "MB", "-2MB", "2mb", "2 M", 2_000_000, None])
def test_a_size_without_a_unit_is_refused(text):
    with pytest.raises(ValueError, match="with its unit"):
        parse_size(text)


class Holder(Table):
    secret: SecretField


def test_an_inline_secret_is_never_shown():
    held = Holder(secret="hunter2")
    assert held.secret.reveal() == "hunter2"
    assert "hunter2" not in f"{held} {held!r} {held.model_dump()} {held.model_dump_json()}"


def test_a_secret_from_the_environment_is_read_when_it_is_needed(monkeypatch):
    held = Holder.model_validate({"secret": {"env": "TILLWATCH_TEST_SECRET"}})
    monkeypatch.delenv("TILLWATCH_TEST_SECRET", raising=False)
    with pytest.raises(SecretError, match="TILLWATCH_TEST_SECRET is not set"):
        held.secret.reveal()
    monkeypatch.setitem(os.environ, "TILLWATCH_TEST_SECRET", "x")
    assert held.secret.reveal() == "x"


def test_a_secret_file_is_named_but_not_shown_when_it_cannot_be_read(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfehunter2")
    for name, why in (("gone", "No such file or directory"), ("binary", "not text")):
        held = Holder.model_validate({"secret": {"file": name}}, context={"base": tmp_path})
        with pytest.raises(SecretError) as error:
            held.secret.reveal()
        assert str(error.value) == f"{tmp_path / name}: {why}"


@pytest.mark.parametrize("value", [{}, {"env": "A", "credential": "b"}, {"inline": "x"}, {"env": "A", "inline": "x"}, {"envv": "A"}, 3])
def test_a_secret_has_one_source(value):
    with pytest.raises(ValidationError):
        Holder.model_validate({"secret": value})


def test_a_credential_is_read_from_systemds_directory(tmp_path, monkeypatch):
    (tmp_path / "card").write_text("4242\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(credential="card").reveal() == "4242"


def test_unknown_keys_of_a_table_are_refused_and_it_cannot_be_changed():
    with pytest.raises(ValidationError):
        Holder.model_validate({"secret": "x", "secrets": "y"})
    with pytest.raises(ValidationError):
        Holder(secret="x").secret = "y"


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=20))
def test_identifiers_sort_by_time(times):
    ids = [clock.new_id(at) for at in times]
    assert all(len(i) == 26 for i in ids)
    for (a, one), (b, other) in zip(zip(times, ids, strict=True), zip(times[1:], ids[1:], strict=True), strict=False):
        if abs(a - b) >= 0.002:
            assert (a < b) == (one < other)


def test_identifiers_of_one_moment_differ():
    assert len({clock.new_id(5.0) for _ in range(1000)}) == 1000


def test_a_step_of_the_wall_clock_moves_no_duration(monkeypatch):
    real = clock.Clock()
    before = real.now()
    monkeypatch.setattr("time.time", lambda: before + 1e6)
    assert 0 <= real.now() - before < 5


def test_the_manual_clock_stands_until_it_is_moved():
    manual = clock.ManualClock(5.0)
    assert (manual.now(), manual.now()) == (5.0, 5.0)
    manual.at += 2
    assert manual.now() == 7.0


def test_times_for_machines_are_rfc_3339_in_utc():
    assert clock.iso(1_790_000_000.125) == "2026-09-21T14:13:20.125Z"


@pytest.mark.parametrize(("seconds", "words"), [
    (0, "0 s"), (89, "89 s"), (90, "2 min"), (840, "14 min"), (3600, "1 h"), (7500, "2 h 5 min"), (3599, "1 h"),
    (172_800, "2 d"), (273_600, "3 d 4 h")])
def test_spans_for_people(seconds, words):
    assert clock.span(seconds) == words


@given(st.floats(0, 1e9))
def test_a_span_for_people_is_right_within_its_last_unit(seconds):
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    parts = clock.span(seconds).split()
    shown = sum(int(n) * units[u] for n, u in zip(parts[::2], parts[1::2], strict=True))
    assert math.isclose(shown, seconds, abs_tol=0.51 if seconds < 90 else 31 if seconds < 172_000 else 3631)
