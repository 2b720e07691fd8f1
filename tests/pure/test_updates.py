"""An update's life: every act in every status, expiry, verdicts, attribution, downtime."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monitor import updates
from monitor.judge.ruling import Ruling
from monitor.updates import LIVE, Changed, Refusal, Status, Update, UpdateSettings

SETTINGS = UpdateSettings()
NOW = 1000.0
OPEN = Update(id="u1", version="v2", started=100.0, by="ci", phase="canary", expires=7300.0, segments=(100.0,), downtime_until=2000.0)
ACTS = {
    "phase": lambda u: updates.phase(u, "all", NOW), "finish": lambda u: updates.finish(u, NOW),
    "rollback": lambda u: updates.rollback(u, NOW), "cancel": lambda u: updates.cancel(u, NOW),
}
# what each act leads to; everything else is refused
LEADS = {
    (Status.OPEN, "phase"): Status.OPEN, (Status.OPEN, "finish"): Status.OBSERVING, (Status.OPEN, "rollback"): Status.RECOVERING,
    (Status.OPEN, "cancel"): Status.CANCELLED, (Status.OBSERVING, "rollback"): Status.RECOVERING,
}


def in_status(status):
    finished = {"finished": 500.0, "segments": (100.0, 500.0)} if status in {Status.OBSERVING, Status.CLOSED} else {}
    return replace(OPEN, status=status, **finished)


def ruling(verdict):
    return Ruling(verdict, "failures", f"It is {verdict}.", (), ())


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("status", Status)
def test_every_act_in_every_status(status, act):
    update = in_status(status)
    result = ACTS[act](update)
    if (status, act) in LEADS:
        assert result.status is LEADS[status, act]
        assert (result.id, result.version, result.started, result.verdict) == ("u1", "v2", 100.0, "watching")
    else:
        assert isinstance(result, Refusal)
        assert result.reason.startswith(f"update u1 (v2) is {status.value}: it can")


def test_a_phase_is_a_segment_of_its_own():
    update = updates.phase(OPEN, "half", NOW)
    assert (update.phase, update.segments) == ("half", (100.0, NOW))
    assert updates.phase(update, "half", NOW + 1) == Refusal("update u1 is already in phase half")


def test_finishing_begins_the_last_segment_and_ends_announced_downtime():
    update = updates.finish(OPEN, NOW)
    assert (update.finished, update.segments, update.downtime_until) == (NOW, (100.0, NOW), NOW)
    assert updates.finish(replace(OPEN, downtime_until=0.0), NOW).downtime_until == 0.0


def test_rolling_back_and_cancelling_keep_a_regression_on_record():
    guilty = updates.ruled(OPEN, ruling("regression"), 900.0)
    assert updates.rollback(guilty, NOW).rolled_back == NOW
    for act in ("rollback", "cancel"):
        assert ACTS[act](guilty).regressed
    assert ACTS["cancel"](guilty).closed == NOW


@pytest.mark.parametrize(("verdict", "left"), [("watching", ("inconclusive", NOW)), ("regression", ("regression", 600.0)), ("pass", ("pass", 600.0))])
def test_an_update_that_is_superseded_is_closed_with_the_verdict_that_it_has(verdict, left):
    update = replace(in_status(Status.OBSERVING), verdict=verdict, verdict_at=600.0 if verdict != "watching" else None)
    closed = updates.supersede(update, NOW)
    assert (closed.status, closed.closed, closed.verdict, closed.verdict_at) == (Status.CLOSED, NOW, *left)


@pytest.mark.parametrize("status", Status)
def test_only_an_open_update_expires_and_only_when_its_time_has_come(status):
    update = in_status(status)
    assert [updates.expired(update, at) for at in (7299.9, 7300.0, 1e9)] == ([False, True, True] if status is Status.OPEN else [False] * 3)


@pytest.mark.parametrize("status", Status)
def test_live_are_the_statuses_in_which_it_is_watched(status):
    assert in_status(status).live == (status in {Status.OPEN, Status.OBSERVING, Status.RECOVERING}) == (status in LIVE)


def test_the_observation_is_over_after_warm_up_and_its_limit():
    update = in_status(Status.OBSERVING)
    over = 500.0 + SETTINGS.warm_up + 7200.0
    assert not updates.observed_enough(update, SETTINGS, over - 0.1)
    assert updates.observed_enough(update, SETTINGS, over)
    short = UpdateSettings(observe="30m", warm_up="1m")
    assert updates.observed_enough(update, short, 500.0 + 1860.0)
    assert not updates.observed_enough(in_status(Status.OPEN), short, 1e9)
    assert not updates.observed_enough(in_status(Status.RECOVERING), short, 1e9)


def test_the_latest_moment_of_a_verdict_is_known_from_the_start():
    rest = SETTINGS.warm_up + 7200.0
    assert updates.decided_by(OPEN, SETTINGS) == 7300.0 + rest
    assert updates.decided_by(in_status(Status.OBSERVING), SETTINGS) == 500.0 + rest
    for status in (Status.RECOVERING, Status.CLOSED, Status.CANCELLED, Status.REFUSED):
        assert updates.decided_by(in_status(status), SETTINGS) is None
    assert updates.decided_by(replace(OPEN, verdict="regression"), SETTINGS) is None


def test_watching_goes_on_with_the_newest_ruling():
    update = updates.ruled(OPEN, ruling("watching"), NOW)
    assert (update.status, update.verdict, update.verdict_at, update.ruling["sentence"]) == (Status.OPEN, "watching", None, "It is watching.")


def test_a_regression_stays_and_does_not_close_the_update():
    update = updates.ruled(OPEN, ruling("regression"), NOW)
    assert (update.status, update.verdict, update.verdict_at, update.closed) == (Status.OPEN, "regression", NOW, None)
    for later in ("watching", "pass", "inconclusive"):
        assert updates.ruled(update, ruling(later), NOW + 5) == update
    again = updates.ruled(update, replace(ruling("regression"), sentence="Worse still."), NOW + 5)
    assert (again.verdict_at, again.ruling["sentence"]) == (NOW, "Worse still.")


@pytest.mark.parametrize("verdict", ["pass", "inconclusive"])
def test_a_pass_or_an_inconclusive_end_closes_the_update(verdict):
    update = updates.ruled(in_status(Status.OBSERVING), ruling(verdict), NOW)
    assert (update.status, update.verdict, update.verdict_at, update.closed) == (Status.CLOSED, verdict, NOW, NOW)


def test_back_to_normal_closes_what_was_rolled_back_and_nothing_else():
    recovered = updates.recovered(in_status(Status.RECOVERING), NOW)
    assert (recovered.status, recovered.recovered, recovered.closed) == (Status.CLOSED, NOW, NOW)
    for status in (Status.OPEN, Status.OBSERVING):
        by_itself = updates.recovered(in_status(status), NOW)
        assert (by_itself.status, by_itself.recovered, by_itself.closed) == (status, NOW, None)


def test_a_regressed_update_that_was_finished_is_closed_when_its_observation_is_over():
    guilty = updates.ruled(in_status(Status.OBSERVING), ruling("regression"), 600.0)
    assert updates.closes(guilty, SETTINGS, 7000.0) is None
    assert updates.closes(guilty, SETTINGS, 9000.0).status is Status.CLOSED
    assert updates.closes(in_status(Status.OBSERVING), SETTINGS, 9000.0) is None


@pytest.mark.parametrize("status", Status)
def test_paging_is_mute_during_announced_downtime_of_an_open_update_only(status):
    update = in_status(status)
    assert [updates.muted(update, at) for at in (1999.0, 2000.0)] == [status is Status.OPEN, False]
    assert not updates.muted(None, 0.0)


WEEK = 7 * 86400.0


@pytest.mark.parametrize(("status", "after", "named"), [
    (Status.OPEN, 30 * 86400.0, True), (Status.OBSERVING, 30 * 86400.0, True), (Status.RECOVERING, 30 * 86400.0, True),
    (Status.CLOSED, WEEK - 1, True), (Status.CLOSED, WEEK + 1, False), (Status.CANCELLED, 1.0, False), (Status.REFUSED, 1.0, False)])
def test_an_outage_names_an_update_that_is_under_way_or_was_finished_a_few_days_ago(status, after, named):
    update = in_status(status)
    found = updates.suspect([update], SETTINGS, 500.0 + after)
    assert found == (update if named else None)


def test_the_newest_update_is_the_suspect_and_one_that_recovered_is_none():
    older, newer = in_status(Status.CLOSED), replace(in_status(Status.CLOSED), id="u2", started=300.0, finished=600.0)
    assert updates.suspect([older, newer], SETTINGS, NOW) is newer
    assert updates.suspect([newer, older], SETTINGS, NOW) is newer
    assert updates.suspect([older, replace(newer, recovered=700.0)], SETTINGS, NOW) is older
    assert updates.suspect([older, replace(newer, status=Status.CANCELLED)], SETTINGS, NOW) is older
    assert updates.suspect([], SETTINGS, NOW) is None


@pytest.mark.parametrize(("changes", "until"), [
    ({}, None), ({"status": Status.OBSERVING, "finished": 500.0}, None), ({"status": Status.RECOVERING}, None),
    ({"status": Status.CANCELLED, "closed": 400.0}, 200.0), ({"status": Status.REFUSED}, 200.0),
    ({"status": Status.CLOSED, "finished": 500.0, "closed": 9000.0}, 500.0 + WEEK), ({"status": Status.CLOSED, "closed": 9000.0}, 200.0 + WEEK),
    ({"status": Status.CLOSED, "finished": 500.0, "closed": 2 * WEEK}, 2 * WEEK), ({"recovered": 700.0}, 700.0),
    ({"status": Status.CLOSED, "finished": 500.0, "closed": 800.0, "recovered": 700.0}, 700.0)])
def test_until_when_what_begins_may_belong_to_an_update(changes, until):
    update = replace(OPEN, started=200.0, **changes)
    assert updates.attributed_until(update, SETTINGS) == until
    assert updates.suspect([update], SETTINGS, 199.0) is None, "what began before it is not of it"
    end = 1e12 if until is None else until
    assert (updates.suspect([update], SETTINGS, end - 1) is update) is (end > 200.0)
    assert updates.suspect([update], SETTINGS, end) is (update if until is None else None)


def test_a_shadow_run_ends_on_its_day():
    settings = UpdateSettings(shadow_until="2026-12-24T18:00+01:00")
    end = 1_798_131_600.0
    assert [updates.shadowed(settings, at) for at in (0.0, end - 1, end)] == [True, True, False]
    assert not updates.shadowed(SETTINGS, 0.0)


@pytest.mark.parametrize("wrong", [{"shadow_until": "soon"}, {"interval_factor": 0}, {"interval_factor": 1.1}, {"bursts_per_day": -1},
                                   {"observe": "long"}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        UpdateSettings.model_validate(wrong)


json_values = st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5)
times = st.floats(0, 4e9)
stored = st.builds(
    Update, id=st.text(), version=st.text(), started=times, by=st.text(), phase=st.text(), status=st.sampled_from(Status),
    changes=st.lists(st.builds(Changed, st.text(), st.text()), max_size=3).map(tuple), link=st.text(), override=st.text(), downtime_until=times,
    expires=times, segments=st.lists(times, max_size=4).map(tuple), finished=st.none() | times, rolled_back=st.none() | times,
    recovered=st.none() | times, closed=st.none() | times, verdict=st.sampled_from(["watching", "pass", "regression", "inconclusive"]),
    verdict_at=st.none() | times, ruling=st.dictionaries(st.text(), json_values, max_size=3))


@given(stored)
def test_a_stored_update_comes_back_as_it_was(update):
    document = json.loads(json.dumps(update.to_dict()))
    assert Update.from_dict(document) == update
    assert isinstance(Update.from_dict(document).status, Status)
    assert Update.from_dict(document | {"a key of a later version": 1}) == update


steps = st.lists(
    st.tuples(st.sampled_from([*ACTS, "rule", "recover"]), st.sampled_from(["watching", "pass", "regression", "inconclusive"])), max_size=15)


@given(steps)
def test_whatever_is_done_a_verdict_never_changes_and_an_end_is_an_end(acts):
    update, verdict = OPEN, "watching"
    for act, said in acts:
        if not update.live:
            assert all(isinstance(do(update), Refusal) for do in ACTS.values())
            return
        if act == "rule":
            update = updates.ruled(update, ruling(said), NOW)
        elif act == "recover":
            update = updates.recovered(update, NOW) if update.status is Status.RECOVERING else update
        elif not isinstance(done := ACTS[act](update), Refusal):
            update = done
        assert verdict in {"watching", update.verdict}
        verdict = update.verdict
        assert (update.closed is not None) == (not update.live)
        assert list(update.segments) == sorted(update.segments)
