"""What "before" is: which times are none, how far back it is read, and what reading it costs."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from stage import BASELINE, BURST, HOME, PAY, SPACING, Actor, Make, Stage

from monitor import before
from monitor.health import Target
from monitor.incidents import Incident, Member
from monitor.judge.baseline import WORTH_READING, Baseline
from monitor.judge.season import DAY
from monitor.store import StoreError, records, samples
from monitor.updates import Status, Update

BOTH = (Actor("home", critical=False, urgency="ticket"), Actor("pay"))


async def frozen(stage: Stage, earlier: Iterable[Update] = ()) -> dict[Target, Baseline]:
    targets = {a.target: a.judged() for a in stage.actors}
    return await before.freeze_all(stage.store.path, targets, list(earlier), stage.clock.now(), stage.settings)


async def runs(stage: Stage, earlier: Iterable[Update] = ()) -> dict[str, int]:
    return {target[0]: baseline.runs for target, baseline in (await frozen(stage, earlier)).items()}


def earlier(stage: Stage, **values: object) -> Update:
    """An update whose span is the hundred runs before the newest fifty."""
    start = stage.clock.at - 150 * SPACING
    return replace(Update(id="u", version="1", started=start - 1, by="ci", closed=start + 100 * SPACING - 1), **values)  # type: ignore[arg-type]


async def remember(stage: Stage, kind: str, since: float, recovered: float | None, resolved: float | None) -> None:
    """An incident of home alone."""
    member = Member("home", "", "", "status", since, 3, 5, "ticket", recovered=recovered)
    incident = Incident("i", kind, "errors", "ticket", since, since, members=(member,), resolved=resolved)  # type: ignore[arg-type]
    await stage.store.write(lambda c: records.save_incident(c, incident, since, "firing"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the rows that were decoded."""
    ids: list[int] = []
    decode = samples.Decoder.decode

    def counted(self: samples.Decoder, row: tuple[int, int, int, int, int, bytes | None, str | None]) -> samples.Stored:
        ids.append(row[0])
        return decode(self, row)
    monkeypatch.setattr(samples.Decoder, "decode", counted)
    return ids


# ---- what is no "before"


async def test_a_probe_that_is_down_for_long_spoils_no_past_but_its_own(make: Make) -> None:
    stage = await make(actors=BOTH)
    await stage.live(60, failing=["home"])
    assert [i.kind for i in await stage.incidents() if i.open] == ["outage"]
    assert await runs(stage) == {"home": BASELINE, "pay": BASELINE + 60}


async def test_not_even_the_first_failed_run_counts_whose_start_the_store_cuts_off(make: Make) -> None:
    stage = await make(actors=BOTH)
    stage.clock.at += 0.0007
    await stage.live(10, failing=["home"])
    assert (await runs(stage))["home"] == BASELINE


@pytest.mark.parametrize(("kind", "recovered", "resolved", "left"), [
    ("outage", 100, 140, 100), ("outage", None, 140, 60), ("outage", None, None, 50), ("regression", 100, None, 100),
    ("monitor_fault", 100, 140, 200), ("monitor_fault", None, None, 200), ("drill", None, None, 200),
])
async def test_a_member_is_left_out_until_it_or_its_incident_is_over(
    make: Make, kind: str, recovered: int | None, resolved: int | None, left: int,
) -> None:
    stage = await make(actors=BOTH)
    begun = stage.clock.at - 150 * SPACING
    end, over = (None if n is None else begun + n * SPACING - 1 for n in (recovered, resolved))
    await remember(stage, kind, begun, end, over)
    assert await runs(stage) == {"home": left, "pay": BASELINE}


@pytest.mark.parametrize(("values", "left"), [
    ({"verdict": "regression", "status": Status.CLOSED}, 100), ({"status": Status.CANCELLED}, 100),
    ({"verdict": "pass", "status": Status.CLOSED}, 200), ({"verdict": "regression", "closed": None}, 50),
])
async def test_an_update_that_regressed_or_was_cancelled_is_nobodys_past(make: Make, values: dict[str, object], left: int) -> None:
    stage = await make(actors=BOTH)
    assert await runs(stage, [earlier(stage, **values)]) == {"home": left, "pay": left}
    recovered = earlier(stage, verdict="regression", recovered=stage.clock.at - 100 * SPACING - 1)
    assert (await runs(stage, [recovered]))["pay"] == 150


async def test_reading_goes_on_past_what_is_left_out(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before, "MOST_READ", 1)
    stage = await make(past=360, actors=BOTH)
    await stage.live(40, failing=["home"])
    assert await runs(stage) == {"home": 360, "pay": 360}, "360 are read: 4 times what a faster spacing needs"


async def test_what_went_down_twice_is_left_out_twice_whatever_its_incident_says(make: Make) -> None:
    stage = await make(actors=BOTH)
    for failing in (["home"], [], ["home"], []):
        await stage.live(15, failing=failing)
    await stage.store.write(lambda c: c.execute("DELETE FROM incident"))
    home = (await frozen(stage))[HOME]
    assert home.signals[0].fit
    assert home.signals[0].fit.failures == 0  # type: ignore[union-attr]
    assert BASELINE + 15 <= home.runs <= BASELINE + 30


def test_outages_are_told_by_flips_also_when_they_began_before_or_are_not_over() -> None:
    def flip(new: str, at: float, since: float, probe: str = "home") -> dict[str, object]:
        return {"probe": probe, "device": "", "cohort": "", "at": at, "since": since, "old": "", "new": new}
    flips = [flip("up", 5, 5), flip("down", 12, 10), flip("broken", 13, 13), flip("measured", 14, 14), flip("up", 20, 19), flip("down", 20.5, 20),
             flip("up", 30, 30), flip("down", 90, 88), flip("down", 12, 10, "gone")]
    assert before.excluded([HOME, PAY], [], flips, [], 100.0, {}) == {HOME: [(9.999, 30), (87.999, 100)], PAY: []}


async def test_a_run_that_a_wrong_clock_dated_is_no_past(make: Make) -> None:
    stage = await make(past=100, actors=BOTH)
    now, wrong = stage.clock.at, [3600.0, 40 * DAY, -15 * DAY, -5000 * DAY]
    await stage.store.write(lambda c: samples.Encoder(c).write([stage.run("pay", started=now + by, ended=now + by) for by in wrong]))
    assert await runs(stage) == {"home": 100, "pay": 100}


# ---- what the time of day is known from


async def days(stage: Stage, count: float, spacing: float, wave: float = 0.4) -> None:
    """That many days of runs of pay up to now, each longest in the evening; nobody looked at them."""
    now, rounds = stage.clock.at, int(count * DAY / spacing)
    times = [now - (rounds - n) * spacing for n in range(rounds)]
    took = [0.2 * (1 + wave * math.sin(2 * math.pi * at / DAY)) for at in times]
    made = [stage.run("pay", seconds=s, spacing=spacing, started=at, ended=at + 0.2) for at, s in zip(times, took, strict=True)]
    await stage.store.write(lambda c: samples.Encoder(c).write(made))


def level(baseline: Baseline, at: float) -> float:
    """Of the duration, by the baseline."""
    return baseline.signals[1].level(at)


@pytest.mark.parametrize("most", [2_000, 400_000])
async def test_the_time_of_day_is_known_from_all_of_the_past(make: Make, monkeypatch: pytest.MonkeyPatch, decoded: list[int], most: int) -> None:
    monkeypatch.setattr(before, "MOST_READ", most)
    pay = Actor("pay", interval=120.0, fast=120.0)
    stage = await make(past=0, actors=(pay,))
    await days(stage, 14, 120.0)
    found = (await frozen(stage))[PAY]
    noon = stage.clock.at // DAY * DAY + DAY / 4
    assert level(found, noon) == pytest.approx(1.4, rel=0.05)
    assert level(found, noon + DAY / 2) == pytest.approx(0.6, rel=0.05)
    assert len(decoded) == WORTH_READING + min(before.ENOUGH, most // 2)
    hurried = Actor("pay", interval=120.0, fast=30.0)
    await stage.past(90, trigger=BURST)
    stage.actors = (hurried,)
    quick = (await frozen(stage))[PAY]
    assert (quick.spacing, quick.runs) == (30.0, 90)
    assert level(quick, noon) == pytest.approx(1.4, rel=0.05), "its own runs are all of one hour"


async def test_an_outage_does_not_tell_the_time_of_day(make: Make) -> None:
    stage = await make(past=0, actors=(Actor("pay", interval=600.0, fast=600.0),))
    await days(stage, 14, 600.0)
    dates = [stage.clock.at // DAY * DAY - day * DAY for day in range(14)]       # each afternoon an update was cancelled
    cancelled = [Update(f"{d}", "1", d + 0.5 * DAY, "ci", status=Status.CANCELLED, closed=d + 0.6 * DAY) for d in dates]
    known, whole = (await frozen(stage, cancelled))[PAY].signals[1].season, (await frozen(stage))[PAY].signals[1].season
    assert known
    assert whole
    assert [time for time in known.times if 0.51 * DAY < time < 0.59 * DAY] == []
    assert [time for time in whole.times if 0.51 * DAY < time < 0.59 * DAY] != []


async def test_six_days_do_not_tell_the_time_of_day(make: Make, decoded: list[int]) -> None:
    stage = await make(past=0, actors=(Actor("pay", interval=120.0, fast=120.0),))
    await days(stage, 6, 120.0)
    assert (await frozen(stage))[PAY].signals[1].season is None
    assert len(decoded) == WORTH_READING, "and no more is read for it"


# ---- what reading costs


@pytest.mark.parametrize("page", [50, 20_000])
async def test_a_new_target_does_not_make_the_whole_past_be_decoded(
    make: Make, monkeypatch: pytest.MonkeyPatch, decoded: list[int], page: int,
) -> None:
    monkeypatch.setattr(before, "MOST_READ", 1)
    monkeypatch.setattr(samples, "_PAGE", page)
    stage = await make(past=1000, actors=(Actor("home"), Actor("pay")))
    stage.actors = (*stage.actors, Actor("new"), Actor("never"))
    for _ in range(5):
        stage.intake.accept(stage.run("pay"))
        await stage.store.write(lambda c: samples.Encoder(c).write([stage.run("new")]))
        stage.clock.at += SPACING
    assert await runs(stage) == {"home": 360, "pay": 360, "new": 5, "never": 0}
    assert len(decoded) == 360 + 360 + 5


async def test_what_was_found_in_time_is_before(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert before.ENOUGH_SECONDS <= before.SCAN_SECONDS / 2, "else reading fails instead"
    monkeypatch.setattr(before, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(samples, "_PAGE", 50)
    stage = await make(actors=BOTH)
    found = await frozen(stage)
    assert {target: baseline.runs for target, baseline in found.items()} == {HOME: 25, PAY: 25}
    assert found[PAY].ended == pytest.approx(stage.clock.at - SPACING, abs=0.001), "the newest of them"


async def test_a_store_that_cannot_be_read_is_an_error(make: Make) -> None:
    stage = await make(past=1)
    with pytest.raises(StoreError):
        await before.freeze_all(stage.directory / "none.sqlite3", {}, [], stage.clock.now(), stage.settings)
