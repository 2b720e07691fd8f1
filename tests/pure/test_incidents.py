"""One incident per cause, one per update; when it gets worse; how it ends."""

import json
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.health import Flip, State
from monitor.incidents import (
    STORM,
    Context,
    Fault,
    Incident,
    Member,
    acknowledged,
    concerned,
    on_faults,
    on_flip,
    on_recovery,
    on_regression,
    on_ruling,
    rated,
    storming,
)
from monitor.updates import Update

UPDATE = Update(id="2026-11-24-1", version="v2", started=50.0, by="ci", segments=(50.0, 70.0), ruling={"sentence": "worse"})
SHOP = Context(host="shop.example")


def flip(probe="home", new=State.DOWN, reason="status", at=100.0, **more):
    old = {State.DOWN: State.UP, State.UP: State.DOWN, State.BROKEN: State.MEASURED, State.MEASURED: State.BROKEN}[new]
    return Flip(probe=probe, device=more.pop("device", ""), cohort=more.pop("cohort", ""), old=old, new=new, reason=reason, at=at,
                since=more.pop("since", at - 60), failed=3, of=5, evidence="HTTP 500")


class Book:
    """The incidents as they stand, and every step that was taken."""

    def __init__(self):
        self.all, self.steps, self.numbers = {}, [], count(1)

    def do(self, transitions):
        for t in transitions:
            self.all[t.incident.id] = t.incident
        self.steps += [t.what for t in transitions]
        return transitions

    def flip(self, *args, context=SHOP, **more):
        return self.do(on_flip(self.open, flip(*args, **more), context, self.id))

    def id(self):
        return f"I{next(self.numbers)}"

    @property
    def open(self):
        return [i for i in self.all.values() if i.open]

    @property
    def only(self):
        incident, = self.open
        return incident


@pytest.fixture
def book():
    return Book()


def test_a_flip_to_down_opens_an_outage(book):
    book.flip()
    assert book.steps == ["firing"]
    incident = book.only
    assert (incident.kind, incident.urgency, incident.opened, incident.began, incident.update) == ("outage", "page", 100.0, 40.0, "")
    assert incident.members == (Member("home", "", "", "status", 40.0, 3, 5, "page", evidence="HTTP 500"),)


@pytest.mark.parametrize(("one", "other"), [
    ("connect_refused", "timeout"), ("connect_timeout", "connect_failed"), ("dns", "dns_timeout"), ("tls_expired", "tls_name"),
    ("status", "maintenance"), ("status", "protocol")])
def test_one_cause_that_shows_under_two_reasons_is_one_incident(book, one, other):
    book.flip("home", reason=one)
    book.flip("pay", reason=other)
    assert book.steps == ["firing", "changed"]
    assert [m.probe for m in book.only.members] == ["home", "pay"]


@pytest.mark.parametrize(("one", "other"), [("status", "timeout"), ("dns", "connect_refused"), ("slow", "status")])
def test_different_causes_are_different_incidents(book, one, other):
    book.flip("home", reason=one)
    book.flip("pay", reason=other)
    assert book.steps == ["firing", "firing"]


def test_the_same_cause_at_another_host_is_another_incident(book):
    book.flip("home")
    book.flip("psp", context=Context(host="psp.example"))
    assert book.steps == ["firing", "firing"]


def test_what_is_special_to_a_probe_stands_alone(book):
    book.flip("home", reason="body")
    book.flip("pay", reason="body")
    assert book.steps == ["firing", "firing"]


def test_an_outage_ends_with_its_last_member(book):
    book.flip("home")
    book.flip("pay")
    book.flip("home", State.UP, at=200.0)
    assert book.steps[-1] == "changed"
    assert book.only.open
    book.flip("pay", State.UP, at=300.0)
    assert book.steps[-1] == "resolved"
    ended = book.all["I1"]
    assert (ended.resolved, ended.resolution) == (300.0, "recovered")
    assert [m.recovered for m in ended.members] == [200.0, 300.0]


def test_a_recovery_of_something_that_belongs_nowhere_changes_nothing(book):
    book.flip("home")
    assert book.flip("other", State.UP) == []
    assert book.flip("home", State.UP, device="iPhone 15") == []
    assert book.only.open


def test_a_member_that_flaps_is_one_member(book):
    book.flip("home")
    book.flip("pay")
    book.flip("home", State.UP, at=200.0)
    book.flip("home", at=300.0)
    assert book.steps == ["firing", "changed", "changed", "changed"]
    assert sorted((m.probe, m.recovered) for m in book.only.members) == [("home", None), ("pay", None)]


def test_after_the_end_the_same_cause_is_a_new_incident(book):
    book.flip("home")
    book.flip("home", State.UP, at=200.0)
    book.flip("home", at=300.0)
    assert book.steps == ["firing", "resolved", "firing"]
    assert [i.id for i in book.open] == ["I2"]


def test_a_ticket_that_becomes_a_page_is_told_again_and_the_acknowledgement_is_gone(book):
    book.flip("search", context=replace(SHOP, urgency="ticket"))
    book.do([acknowledged(book.only, "anna", 150.0)])
    book.flip("home")
    assert book.steps == ["firing", "acknowledged", "escalated"]
    assert (book.only.urgency, book.only.escalation, book.only.acked_by, book.only.acked_at) == ("page", 1, "", None)


def test_a_page_is_not_told_again_for_a_ticket_or_another_page(book):
    book.flip("home")
    book.do([acknowledged(book.only, "anna", 150.0)])
    book.flip("pay")
    book.flip("search", context=replace(SHOP, urgency="ticket"))
    assert book.steps == ["firing", "acknowledged", "changed", "changed"]
    assert (book.only.urgency, book.only.escalation, book.only.acked_by) == ("page", 0, "anna")


def test_the_first_critical_probe_that_joins_what_was_acknowledged_is_a_new_page_and_the_second_is_not(book):
    critical = replace(SHOP, critical=True)
    book.flip("home")
    book.do([acknowledged(book.only, "anna", 150.0)])
    book.flip("pay", context=critical)
    assert book.steps[-1] == "escalated"
    book.do([acknowledged(book.only, "anna", 250.0)])
    book.flip("basket", context=critical)
    assert book.steps[-1] == "changed"
    assert book.only.escalation == 1


def test_what_we_cannot_measure_is_a_monitor_fault_and_never_an_outage(book):
    book.flip("home", State.BROKEN, "internal", context=replace(SHOP, critical=True, suspect=UPDATE, watched=True))
    book.flip("pay", State.BROKEN, "internal", context=Context(host="psp.example"))
    assert book.steps == ["firing", "changed"]
    incident = book.only
    assert (incident.kind, incident.urgency, incident.update, incident.escalation) == ("monitor_fault", "ticket", "", 0)


def test_a_monitor_fault_and_an_outage_of_one_target_end_apart(book):
    book.flip("home")
    book.flip("home", State.BROKEN, "internal")
    assert {i.kind for i in book.open} == {"outage", "monitor_fault"}
    book.flip("home", State.UP, at=200.0)
    assert book.only.kind == "monitor_fault"
    book.flip("home", State.MEASURED, "", at=300.0)
    assert book.open == []
    assert book.steps == ["firing", "firing", "resolved", "resolved"]


def test_measuring_again_does_not_end_an_outage(book):
    book.flip("home")
    book.flip("home", State.BROKEN, "internal")
    book.flip("home", State.MEASURED, "")
    assert book.only.kind == "outage"


def test_an_outage_names_the_update_it_may_belong_to(book):
    book.flip(context=replace(SHOP, suspect=UPDATE))
    assert (book.only.kind, book.only.update, book.only.version) == ("outage", UPDATE.id, "v2")


def regression(book, urgency="page", now=120.0):
    return book.do(on_regression(book.open, UPDATE, urgency, now, book.id))


def test_a_regression_opens_the_one_incident_of_its_update(book):
    regression(book)
    incident = book.only
    assert (incident.kind, incident.cause, incident.update, incident.version) == ("regression", "update:2026-11-24-1", UPDATE.id, "v2")
    assert (incident.opened, incident.began, incident.ruling) == (120.0, 70.0, {"sentence": "worse"})


def test_while_it_is_watched_all_that_goes_wrong_joins_the_updates_regression(book):
    watched = replace(SHOP, suspect=UPDATE, watched=True)
    regression(book)
    book.flip("home", context=watched)
    book.flip("psp", reason="dns", context=replace(watched, host="psp.example"))
    assert book.steps == ["firing", "changed", "changed"]
    assert len(book.only.members) == 2
    book.flip("home", State.BROKEN, "internal", context=watched)
    assert len(book.open) == 2


def test_a_control_probe_and_an_outage_after_the_watch_do_not_join_the_regression(book):
    regression(book)
    book.flip("psp", context=Context(host="psp.example"))
    book.flip("home", context=replace(SHOP, suspect=UPDATE, watched=False))
    assert book.steps == ["firing", "firing", "firing"]


def test_an_outage_during_the_update_becomes_its_regression_without_a_second_page(book):
    book.flip(context=replace(SHOP, suspect=UPDATE, watched=True))
    regression(book)
    assert book.steps == ["firing", "changed"]
    incident = book.only
    assert (incident.kind, incident.id, incident.ruling, len(incident.members)) == ("regression", "I1", {"sentence": "worse"}, 1)


WATCHED = replace(SHOP, suspect=UPDATE, watched=True)


def test_outages_of_different_causes_under_one_update_are_one_incident(book):
    book.flip("home", context=WATCHED)
    book.flip("pay", reason="dns", at=110.0, context=WATCHED)
    book.flip("psp", reason="body", at=120.0, context=replace(WATCHED, host="psp.example"))
    assert book.steps == ["firing", "changed", "changed"]
    book.flip("bank", reason="dns", context=Context(host="bank.example"))
    book.flip("stock", reason="dns", context=replace(WATCHED, host="stock.example", suspect=replace(UPDATE, id="older")))
    book.flip("home", State.BROKEN, "internal", context=WATCHED)
    assert book.steps[3:] == ["firing"] * 3, "a control probe, another update, and a fault of ours stand apart"


def split(book):
    """Two outages of one update, as when the first began before it was watched."""
    book.flip("home", context=replace(WATCHED, watched=False))
    book.flip("search", reason="dns", at=110.0, since=30.0, context=replace(WATCHED, watched=False, urgency="ticket"))
    assert len(book.open) == 2


def test_a_regression_makes_one_incident_of_all_outages_of_its_update(book):
    split(book)
    regression(book)
    assert book.steps[2:] == ["changed", "resolved"]
    incident = book.only
    assert (incident.id, incident.kind, incident.began, {m.probe for m in incident.members}) == ("I1", "regression", 30.0, {"home", "search"})
    assert (book.all["I2"].resolved, book.all["I2"].resolution) == (120.0, "part of incident I1")
    book.flip("search", State.UP, at=300.0, context=WATCHED)
    assert [m.recovered for m in incident.members] == [None, None]
    assert {m.probe: m.recovered for m in book.only.members} == {"home": None, "search": 300.0}


def test_the_oldest_is_told_again_only_when_the_others_make_it_worse_than_what_was_told(book):
    book.flip("search", context=replace(WATCHED, watched=False, urgency="ticket"))
    book.flip("home", reason="dns", at=110.0, context=replace(WATCHED, watched=False))
    regression(book, urgency="ticket")
    assert book.steps[2:] == ["escalated", "resolved"]
    assert (book.only.id, book.only.urgency, book.only.escalation) == ("I1", "page", 1)


def test_a_critical_probe_that_is_folded_into_what_was_acknowledged_is_a_new_page(book):
    book.flip("home", context=replace(WATCHED, watched=False))
    book.do([acknowledged(book.only, "anna", 105.0)])
    book.flip("pay", reason="dns", at=110.0, context=replace(WATCHED, watched=False, critical=True))
    regression(book)
    assert book.steps[3:] == ["escalated", "resolved"]
    assert (book.only.acked_by, book.only.escalation) == ("", 1)


def test_of_a_target_that_is_in_several_the_one_that_is_down_stays(book):
    split(book)
    book.flip("pay", context=replace(WATCHED, watched=False))
    book.flip("home", State.UP, at=112.0)
    book.flip("home", reason="dns", at=115.0, context=replace(WATCHED, watched=False))
    regression(book)
    assert {(m.probe, m.reason, m.recovered) for m in book.only.members} == {("home", "dns", None), ("search", "dns", None), ("pay", "status", None)}


def test_the_regression_that_is_open_takes_in_an_older_outage(book):
    book.flip("home", context=replace(WATCHED, watched=False))
    book.do(on_regression([], UPDATE, "page", 120.0, book.id))
    regression(book, now=130.0)
    assert (book.only.id, book.all["I1"].resolution) == ("I2", "part of incident I2")
    assert [m.probe for m in book.only.members] == ["home"]


def test_an_outage_that_was_a_ticket_pages_when_it_becomes_a_regression(book):
    book.flip(context=replace(SHOP, suspect=UPDATE, watched=True, urgency="ticket"))
    regression(book)
    assert book.steps == ["firing", "escalated"]
    assert book.only.urgency == "page"


def test_an_outage_of_another_update_is_not_taken_over(book):
    book.flip(context=replace(SHOP, suspect=replace(UPDATE, id="older")))
    regression(book)
    assert book.steps == ["firing", "firing"]


def test_a_second_verdict_of_one_update_opens_nothing(book):
    regression(book)
    regression(book)
    assert book.steps == ["firing", "changed"]


def test_good_runs_alone_do_not_end_a_regression(book):
    watched = replace(SHOP, suspect=UPDATE, watched=True)
    regression(book)
    book.flip("home", context=watched)
    book.flip("home", State.UP, at=200.0)
    assert book.steps[-1] == "changed"
    assert book.only.open


def test_back_to_normal_ends_the_regression_and_says_why(book):
    regression(book)
    book.do(on_recovery(book.open, UPDATE, "as before for 20 runs", 500.0))
    assert book.steps == ["firing", "resolved"]
    assert (book.all["I1"].resolved, book.all["I1"].resolution) == (500.0, "as before for 20 runs")


def test_a_member_that_is_still_down_keeps_the_incident_open_as_an_outage_that_ends_with_it(book):
    """Otherwise the update is closed, nobody looks at its regression any more, and it stays open for ever."""
    regression(book)
    book.flip("home", context=replace(SHOP, suspect=UPDATE, watched=True))
    book.do(on_recovery(book.open, UPDATE, "as before", 500.0))
    assert (book.steps[-1], book.only.kind) == ("changed", "outage")
    book.flip("home", State.UP, at=600.0)
    assert book.steps[-1] == "resolved"
    assert book.open == []


def test_the_recovery_of_one_update_leaves_anothers_incident_alone(book):
    regression(book)
    assert on_recovery(book.open, replace(UPDATE, id="other"), "as before", 500.0) == []


def test_nothing_happens_to_what_has_ended():
    ended = Incident(id="I1", kind="outage", cause="errors@shop.example", urgency="page", opened=1.0, began=0.0, resolved=2.0,
                     members=(Member("home", "", "", "status", 0.0, 3, 5, "page"),))
    assert on_flip([ended], flip(new=State.UP), SHOP, lambda: "I2") == []
    assert on_flip([ended], flip(), SHOP, lambda: "I2")[0].incident.id == "I2"


# ---- storms


STORMY = replace(SHOP, storm=True)


@pytest.mark.parametrize(("times", "now", "storm"), [
    ([100.0] * 8, 100.0, True), ([100.0] * 7, 100.0, False), ([100.0] * 8, 159.9, True), ([100.0] * 8, 160.0, False),
    ([10.0, *[100.0] * 7], 101.0, False), ([], 0.0, False)])
def test_eight_incidents_within_a_minute_are_a_storm(times, now, storm):
    assert storming(times, now) is storm


def test_in_a_storm_all_that_goes_wrong_is_one_more_incident_that_ends_with_its_last_member(book):
    book.flip("home")
    book.flip("a", reason="body", context=STORMY)
    book.flip("b", reason="dns", context=replace(STORMY, host="b.example"))
    book.flip("home2", context=STORMY)
    assert book.steps == ["firing", "firing", "changed", "changed"], "what belongs to an open incident still joins that"
    storm = book.all["I2"]
    assert (storm.cause, storm.kind, [m.probe for m in storm.members]) == (STORM, "outage", ["a", "b"])
    book.flip("a", State.UP, at=200.0)
    assert book.all["I2"].open
    book.flip("b", State.UP, at=210.0)
    assert not book.all["I2"].open


def test_in_a_storm_a_first_page_among_tickets_is_still_told(book):
    book.flip("a", reason="body", context=replace(STORMY, urgency="ticket"))
    book.flip("b", reason="body", context=STORMY)
    assert (book.steps, book.only.urgency) == (["firing", "escalated"], "page")


def test_a_storm_swallows_neither_what_belongs_to_an_update_nor_what_is_our_own(book):
    regression(book)
    book.flip("a", context=replace(STORMY, suspect=UPDATE, watched=True))
    book.flip("b", State.BROKEN, "uplink", context=STORMY)
    assert {i.cause for i in book.open} == {f"update:{UPDATE.id}", "broken:uplink"}


# ---- faults that we find in ourselves


def found(book, *, ended=(), now=100.0, **faults):
    faults = {f"self:{name}": fault for name, fault in faults.items()}
    return book.do(on_faults(book.open, faults, {f"self:{name}" for name in ended}, now, dict.fromkeys(faults, now - 30), book.id))


DISK = Fault("the disk is full")


def test_a_fault_of_ours_is_one_incident_while_it_lasts(book):
    found(book, store=DISK)
    found(book, store=DISK, now=105.0)
    assert book.steps == ["firing"]
    incident = book.only
    assert (incident.kind, incident.cause, incident.urgency, incident.opened, incident.began, incident.said, incident.members) == (
        "monitor_fault", "self:store", "ticket", 100.0, 70.0, "the disk is full", ())
    found(book, now=110.0)
    assert book.only.open, "not seen is not yet mended: whoever looks decides"
    found(book, ended=["store"], now=120.0)
    assert (book.open, book.all["I1"].resolved, book.all["I1"].resolution) == ([], 120.0, "mended")


def test_faults_of_ours_stand_apart_and_other_words_are_no_new_page(book):
    found(book, store=DISK, clock=Fault("put back"))
    found(book, store=Fault("the disk is read-only"), clock=Fault("put back"))
    assert book.steps == ["firing", "firing", "changed"]
    assert {i.said for i in book.open} == {"the disk is read-only", "put back"}


def test_a_fault_of_ours_that_becomes_a_page_is_told_again_and_not_taken_back(book):
    found(book, r=Fault("slow"))
    found(book, r=Fault("dead", "page"))
    found(book, r=Fault("slow"))
    assert book.steps == ["firing", "escalated", "changed"]
    assert (book.only.urgency, book.only.escalation) == ("page", 1)


def test_a_fault_of_ours_leaves_probes_alone_and_they_it(book):
    book.flip("home", State.BROKEN, "internal")
    found(book, store=DISK)
    book.flip("home", State.MEASURED)
    assert [i.cause for i in book.open] == ["self:store"]
    book.flip("home", State.BROKEN, "internal")
    found(book, ended=["store"])
    assert [i.cause for i in book.open] == ["broken:internal"]


# ---- people


def test_feedback_is_kept_also_of_what_is_over(book):
    book.flip("home")
    book.do([rated(book.only, "false")])
    book.flip("home", State.UP, at=200.0)
    assert book.all["I1"].feedback == "false"
    book.do([rated(book.all["I1"], "useful")])
    assert (book.all["I1"].feedback, book.all["I1"].resolved, book.steps[-1]) == ("useful", 200.0, "feedback")


def test_what_an_incident_is_about_are_the_probes_that_are_bad_and_those_that_the_verdict_names(book):
    book.flip("home")
    book.flip("pay")
    book.flip("home", State.UP, at=200.0)
    assert concerned(book.only) == {"pay"}
    guilty = {"signals": [{"probe": "search", "guilty": True}, {"probe": "cart", "guilty": False}]}
    assert concerned(replace(book.only, kind="regression", ruling=guilty)) == {"pay", "search"}
    assert concerned(replace(book.only, ruling=guilty)) == {"pay"}, "an outage that once was a regression"


json_values = st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5)
times = st.floats(0, 4e9)
members = st.builds(Member, st.text(), st.text(), st.text(), st.text(), times, st.integers(0, 9), st.integers(0, 9),
                    st.sampled_from(["page", "ticket"]), st.booleans(), st.text(), st.none() | times)


@given(st.builds(Incident, id=st.text(), kind=st.sampled_from(["outage", "regression", "monitor_fault", "drill"]), cause=st.text(),
                 urgency=st.sampled_from(["page", "ticket"]), opened=times, began=times, members=st.lists(members, max_size=3).map(tuple),
                 ruling=st.dictionaries(st.text(), json_values, max_size=3), escalation=st.integers(0, 5), told=st.booleans(),
                 acked_at=st.none() | times))
def test_a_stored_incident_comes_back_as_it_was(incident):
    stored = json.loads(json.dumps(incident.to_dict()))
    assert Incident.from_dict(stored) == incident
    assert Incident.from_dict(stored | {"a key of a later version": 1}) == incident


shop_flips = st.tuples(st.sampled_from(["home", "pay", "search"]), st.sampled_from([*State]), st.sampled_from(["status", "dns", "timeout"]))


@given(st.lists(shop_flips, max_size=40))
def test_there_is_never_more_than_one_open_incident_per_cause_and_none_without_a_member_that_is_down(steps):
    book, states = Book(), {}
    for number, (probe, new, reason) in enumerate(steps):
        axis = "shop" if new in {State.UP, State.DOWN} else "measuring"
        if states.get((probe, axis), {"shop": State.UP, "measuring": State.MEASURED}[axis]) is new:
            continue                                       # a flip is a change
        states[probe, axis] = new
        book.flip(probe, new, reason, at=100.0 + number)
        causes = [i.cause for i in book.open]
        assert len(causes) == len(set(causes))
        assert all(any(m.recovered is None for m in i.members) for i in book.open)
        bad = {(p, a) for (p, a), s in states.items() if s in {State.DOWN, State.BROKEN}}
        shown = {(m.probe, "measuring" if i.kind == "monitor_fault" else "shop") for i in book.open for m in i.members if m.recovered is None}
        assert shown == bad


# ---- what is open for long


def told(book):
    book.all = {id_: replace(i, told=True) for id_, i in book.all.items()}


def test_what_nobody_mends_does_not_swallow_the_next_outage(book):
    book.flip("blog", at=100.0)
    told(book)
    book.flip("home", at=9100.0)
    book.flip("pay", at=9105.0, context=replace(SHOP, critical=True))
    assert book.steps == ["firing", "firing", "changed"]
    assert [[m.probe for m in i.members] for i in book.open] == [["blog"], ["home", "pay"]]
    book.flip("home", State.UP, at=9300.0)
    book.flip("pay", State.UP, at=9300.0)
    assert [m.probe for m in book.only.members] == ["blog"]


def test_what_was_not_told_yet_takes_in_what_comes_later(book):
    book.flip("blog", at=100.0)
    book.flip("home", at=9100.0)
    assert book.steps == ["firing", "changed"]


def test_a_critical_probe_that_joins_a_page_of_some_minutes_ago_is_a_new_page_without_any_acknowledgement(book):
    book.flip("blog", at=100.0)
    told(book)
    book.flip("home", at=390.0, context=replace(SHOP, critical=True))
    assert book.steps == ["firing", "changed"]
    book.flip("home", State.UP, at=400.0)
    book.flip("pay", at=410.0, context=replace(SHOP, critical=True))
    assert book.steps == ["firing", "changed", "changed", "escalated"]


def test_a_critical_probe_that_has_recovered_does_not_stand_for_the_next(book):
    critical = replace(SHOP, critical=True)
    book.flip("home", at=100.0)
    book.flip("checkout", at=100.0, context=critical)
    book.flip("checkout", State.UP, at=200.0)
    book.do([acknowledged(book.only, "ann", 210.0)])
    book.flip("checkout", at=220.0, context=critical)
    assert book.steps[-1] == "escalated"


def test_what_came_and_went_and_is_down_for_good_pages_whoever_acknowledged_the_coming_and_going(book):
    book.flip("home", at=100.0)
    again = replace(flip("home", at=5000.0), old=State.DOWN)
    assert [t.what for t in on_flip(book.open, again, SHOP, book.id)] == ["changed"]
    book.do([acknowledged(book.only, "ann", 210.0)])
    assert [t.what for t in on_flip(book.open, again, SHOP, book.id)] == ["escalated"]
    otherwise = replace(again, reason="connect_refused")
    assert [(t.what, t.incident.id) for t in on_flip(book.open, otherwise, SHOP, book.id)] == [("escalated", "I1")]


def ruling(*guilty):
    return {"signals": [{"probe": probe, "signal": "duration", "guilty": True} for probe in guilty]}


def test_a_regression_that_names_more_is_changed_and_one_that_is_worth_more_is_paged(book):
    slow = replace(UPDATE, ruling=ruling("blog"))
    book.do(on_regression(book.open, slow, "ticket", 120.0, book.id))
    assert on_ruling(book.open, slow, "ticket") == []
    wider = replace(UPDATE, ruling=ruling("blog", "search"))
    book.do(on_ruling(book.open, wider, "ticket"))
    book.do(on_ruling(book.open, replace(UPDATE, ruling=ruling("blog", "search", "pay")), "page"))
    assert book.steps == ["firing", "changed", "escalated"]
    assert (book.only.urgency, concerned(book.only)) == ("page", {"blog", "search", "pay"})
    assert on_ruling(book.open, replace(UPDATE, ruling=ruling("pay")), "page") == []


def test_a_probe_that_is_taken_out_of_the_configuration_has_not_recovered(book):
    book.flip("home", at=100.0)
    book.flip("home", State.UP, "removed", at=200.0)
    ended, = book.all.values()
    assert ended.resolution == "no longer configured"
