"""The words of a page, sentence by sentence."""

from dataclasses import replace
from typing import Any

import pytest
from desk import FACTS, NIGHT, make_incident, make_member

from monitor.alerts.page import BRIEF_LIMIT, TEXT_LIMIT, Delivery, Facts, Page, compose
from monitor.incidents import Incident
from monitor.updates import Changed, Status, Update


def signal(probe: str = "pay", **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "probe": probe,
        "device": "",
        "cohort": "",
        "signal": "success",
        "test": "bernoulli",
        "critical": True,
        "n_before": 288,
        "n_after": 4,
        "before": 0.0,
        "after": 1.0,
        "failed_before": 0,
        "failed_after": 4,
        "ratio_lower": None,
        "ratio": None,
        "ratio_upper": None,
        "evidence": 3.1,
        "threshold": 1.5,
        "guilty": True,
    }
    return row | changes


PAY = signal(evidence=9.0, failed_after=5, n_after=11, n_before=164)
SLOW = signal("home", signal="", failed_before=None, failed_after=None, before=0.3, after=2.0)
UPDATE = Update(
    id="01update", version="2.0", started=NIGHT - 180, by="ci", changes=(Changed("payment", "3.1"), Changed("theme")), ruling={"signals": [signal()]}
)
REGRESSION = make_incident(
    kind="regression",
    cause="update:01update",
    update="01update",
    version="2.0",
    members=(),
    ruling={"sentence": "Customers cannot check out: *pay* failed 4 of 4 since the update, before 0 of 288.", "signals": [signal()]},
)


FAULT = make_incident(
    kind="monitor_fault", cause="self:store", urgency="page", members=(), said="Tillwatch cannot write to its database (the disk is full)."
)
NEWS = make_incident(
    "notice-1", kind="update", cause="update", update="01update", version="2.0", urgency="ticket", members=(), said="Update 2.0 has started"
)


def page(incident: Incident, facts: Facts = FACTS, *, after: float = 60.0, **delivery: Any) -> Page:
    return compose(incident, facts, Delivery(**delivery), NIGHT + after)


@pytest.mark.parametrize(
    ("incident", "facts", "expected"),
    [
        (
            make_incident(update="01update"),
            replace(FACTS, update=UPDATE, means={"pay": "Customers cannot pay"}),
            "Customers cannot pay since 02:14: *pay* failed 4 of 4, before the update 0 of 288; the server refused the connection",
        ),
        (make_incident(), FACTS, "Customers cannot use *pay* since 02:14: it failed 4 of 4; the server refused the connection"),
        (
            make_incident(members=(make_member("search", critical=False, failed=3, of=5, reason="slow"),)),
            FACTS,
            "*search* has been failing since 02:14: it failed 3 of 5; the answer was right and complete, but took longer than expect.max_duration",
        ),
        (
            make_incident(members=(make_member("search", critical=False), make_member("pay"))),
            FACTS,
            "Customers cannot use *pay* and *search* since 02:14: *pay* failed 4 of 4; the server refused the connection",
        ),
        (
            make_incident(members=(make_member("pay", recovered=NIGHT + 30), make_member("home", device="iPhone 15"))),
            FACTS,
            "Customers cannot use *home* since 02:14: it failed 4 of 4; the server refused the connection",
        ),
        (
            make_incident(members=tuple(make_member(f"p{n}") for n in range(5))),
            FACTS,
            "Customers cannot use *p0*, *p1* and 3 more since 02:14: *p0* failed 4 of 4; the server refused the connection",
        ),
        (REGRESSION, FACTS, "Customers cannot check out since 02:14: *pay* failed 4 of 4 since the update, before 0 of 288"),
        (
            replace(REGRESSION, ruling={"sentence": "worse.", "signals": [signal("home"), PAY, signal("home", signal="duration")]}),
            replace(FACTS, means={"pay": "customers cannot pay."}),
            "Customers cannot pay since 02:14: *pay* failed 5 of 11 since update 2.0, before 0 of 164; also worse: *home*",
        ),
        (
            replace(REGRESSION, ruling={"sentence": "Customers wait longer: *home* takes 2 s.", "signals": [SLOW]}),
            replace(FACTS, means={"home": "customers see no shop"}),
            "Customers wait longer since 02:14: *home* takes 2 s",
        ),
        (replace(REGRESSION, ruling={"sentence": "It is worse."}), FACTS, "It is worse since 02:14"),
        (replace(REGRESSION, ruling={}), FACTS, "Update 2.0 made the shop worse, seen since 02:14"),
        (
            make_incident(kind="monitor_fault", urgency="ticket", members=(make_member(reason="deadline"),)),
            FACTS,
            (
                "Tillwatch cannot measure *pay* since 02:14 (the run did not end by itself and was stopped by the scheduler): "
                "this says nothing about the shop itself"
            ),
        ),
        (FAULT, FACTS, "Tillwatch cannot write to its database (the disk is full)"),
        (
            replace(FAULT, resolved=NIGHT + 720),
            FACTS,
            "Over: what was told as “Tillwatch cannot write to its database (the disk is full)” went on from 02:14 to 02:26, lasted 12 min",
        ),
        (NEWS, FACTS, "Update 2.0 has started"),
        (
            make_incident(cause="storm", members=(make_member("home", critical=False), make_member("pay"), make_member("search", critical=False))),
            replace(FACTS, means={"pay": "Customers cannot pay."}),
            "3 probes fail for different reasons since 02:14: first of all *pay* (Customers cannot pay), then *home* and *search*",
        ),
        (
            make_incident(cause="storm", members=(make_member("home", recovered=NIGHT + 60), make_member("pay"))),
            FACTS,
            "Customers cannot use *pay* since 02:14: it failed 4 of 4; the server refused the connection",
        ),
        (make_incident(resolved=NIGHT + 720, resolution="recovered"), FACTS, "Over: *pay* failed from 02:14 to 02:26, lasted 12 min"),
        (
            replace(REGRESSION, resolved=NIGHT + 2400),
            FACTS,
            "Over: the shop is as it was before update 2.0, which made it worse from 02:14 to 02:54, lasted 40 min",
        ),
        (
            make_incident(update="01update", version="2.0", resolved=NIGHT + 720, resolution="part of incident 02other"),
            FACTS,
            "Not over, but told together from now on: *pay* is part of incident 02other (update 2.0)",
        ),
        (
            make_incident(kind="monitor_fault", resolved=NIGHT + 720),
            FACTS,
            "Over: Tillwatch can measure *pay* again, which it could not from 02:14 to 02:26, lasted 12 min",
        ),
    ],
)
def test_the_sentence(incident: Incident, facts: Facts, expected: str) -> None:
    assert page(incident, facts, after=720).sentence == expected


def test_a_receiver_that_could_not_be_told_reads_when_it_was_down() -> None:
    incident = make_incident(began=NIGHT + 35_340, resolved=NIGHT + 36_180)
    assert page(incident, after=36_200, missed=True).sentence == ("Over, and you could not be told before: *pay* was down 12:03–12:17, lasted 14 min")


def test_a_drill_says_so_everywhere() -> None:
    drill = page(make_incident(kind="drill", members=()), receiver="oncall")
    assert drill.sentence == "This is a test of the receiver oncall: nothing is wrong with the shop"
    assert drill.title == "[TEST] example-shop: This is a test of the receiver oncall: nothing is wrong with the shop"
    assert drill.link == ""


def test_the_same_incident_reads_longer_later() -> None:
    assert "since 02:14, for 60 s, as of 02:15" in page(make_incident(), after=60).text()
    assert "since 02:14, for 14 min, as of 02:28" in page(make_incident(), after=840).text()
    assert "since 2026-09-22 02:14, for 24 h" in page(make_incident(), after=86_400).text()


@pytest.mark.parametrize(
    ("incident", "update", "expected"),
    [
        (make_incident(update="01update", version="2.0"), UPDATE, "started 3 min after update 2.0"),
        (make_incident(update="01update", version="2.0"), replace(UPDATE, started=NIGHT - 4 * 3600), "may belong to update 2.0 of 4 h ago"),
        (
            make_incident(update="01update", version="2.0"),
            replace(UPDATE, started=NIGHT + 120),
            "began 2 min before update 2.0 started, so probably something else",
        ),
        (make_incident(update="01update", version="2.0"), None, "may belong to update 2.0"),
        (make_incident(), None, ""),
        (REGRESSION, UPDATE, "update 2.0 (it changes payment 3.1, theme): judged against the time before it"),
    ],
)
def test_the_culprit_is_no_surer_than_what_is_known(incident: Incident, update: Update | None, expected: str) -> None:
    assert page(incident, replace(FACTS, update=update)).culprit == expected


@pytest.mark.parametrize(
    ("incident", "expected"),
    [
        (make_incident(), "4 of 4 runs failed and the failing lasted 60 s"),
        (make_incident(escalation=1), "it is worse than what was told before: 4 of 4 runs failed and the failing lasted 60 s"),
        (REGRESSION, "*pay* success: evidence 10^3.1 against threshold 10^1.5"),
        (make_incident(kind="monitor_fault"), "4 of 4 runs could not be measured, for 60 s"),
        (FAULT, "what is wrong with Tillwatch itself, somebody has to mend"),
        (NEWS, "this receiver wants to hear of every update"),
        (make_incident(resolved=NIGHT + 90, resolution="recovered"), "the end of what was sent is always sent (recovered)"),
    ],
)
def test_why_it_was_sent(incident: Incident, expected: str) -> None:
    assert page(incident).why == expected


def test_why_it_was_sent_again_or_to_somebody_else() -> None:
    instead = {"instead_of": "oncall", "unreached": NIGHT + 120}
    assert page(make_incident(), after=14_400, reminder=True).why == "still wrong after 4 h, and nobody acknowledged it"
    assert page(make_incident(), after=300, **instead).why == (
        "instead of oncall, which could not be reached since 02:16; 4 of 4 runs failed and the failing lasted 60 s"
    )
    assert page(make_incident(), instead_of="oncall").why.startswith("instead of oncall, which could not be reached; ")


def test_news_is_no_alarm() -> None:
    told = page(NEWS, replace(FACTS, update=UPDATE))
    assert told.title == "[update] example-shop: Update 2.0 has started"
    assert (told.link, told.culprit, told.first) == ("", "", "")
    assert told.text().splitlines()[:4] == [
        "Update 2.0 has started.", "", "update · example-shop (production) · 02:14",
        "Update: 2.0 (payment 3.1, theme), phase all https://till.example/updates/01update",
    ]


@pytest.mark.parametrize(
    ("cause", "first"),
    [
        ("self:store", "look at the log of Tillwatch on its host, and at the disk there"),
        ("self:clock", "look at the log of Tillwatch on its host"),
        ("self:receiver:oncall", "mend its settings or its network, then try it: `tillwatch test-alert oncall`"),
    ],
)
def test_a_fault_of_ours_says_what_to_do(cause: str, first: str) -> None:
    assert page(replace(FAULT, cause=cause)).first == first


def test_a_page_knows_the_installation() -> None:
    assert page(make_incident(), replace(FACTS, install="01install")).install == "01install"


def test_evidence_is_guilty_signals_first_and_scrubbed() -> None:
    slow = signal(
        "home", signal="duration", critical=False, failed_before=None, failed_after=None, before=0.34, after=2.1, ratio_lower=4.0, ratio_upper=8.0
    )
    incident = replace(
        REGRESSION,
        ruling={"signals": [slow, signal(), signal("fine", guilty=False)]},
        members=(make_member(evidence="card 4111 1111 1111 1111 of ann@customer.example at 10.1.2.3"),),
    )
    lines = page(incident).evidence
    assert lines[:2] == ("*pay* failed 4 of 4, before 0 of 288", "*home* duration 2.1 s, before 340 ms, 4 to 8 times as long")
    assert not any(part in lines[2] for part in ("4111", "ann@", "10.1.2.3"))


def test_the_step_at_which_a_checkout_fails_is_told_once() -> None:
    """Its signal has the numbers of the run as a whole: two lines alike would say nothing of where."""
    whole, step = signal("checkout", signal="success", device="iPhone 15"), signal("checkout", signal="step payment", device="iPhone 15")
    told = page(replace(REGRESSION, ruling={"signals": [whole, step]}), replace(FACTS, means={"checkout": "customers cannot buy"}))
    assert told.evidence == ("*checkout* (iPhone 15) failed 4 of 4, before 0 of 288, at payment",)
    assert told.sentence.endswith("failed 4 of 4 since update 2.0, before 0 of 288, at payment")
    alone = page(replace(REGRESSION, ruling={"signals": [step, signal("checkout", signal="success", device="Pixel 7")]}))
    assert alone.evidence == (told.evidence[0], "*checkout* (Pixel 7) failed 4 of 4, before 0 of 288")


def test_what_was_kept_begins_with_what_can_be_looked_at() -> None:
    member = make_member("pay", evidence=f"no button [details artifacts/{'2b' * 16}.json, screenshot artifacts/{SHOT}]")
    text = page(make_incident(members=(member,)), replace(FACTS, base="https://till.example/")).text()
    assert text.index("\nScreenshot: ") < text.index("\nWhat the browser saw: ")
    assert text.count("\nDetails: ") <= 1


def test_a_flow_that_is_wrong_is_to_be_mended_first() -> None:
    flow, other = (page(make_incident(kind="monitor_fault", members=(make_member("buy", reason=reason),))).first for reason in ("flow", "browser"))
    assert flow == "mend the flow, `tillwatch flow check` says where, and run `tillwatch probe buy` there"
    assert other == "look at the log of Tillwatch on its host, and run `tillwatch probe buy` there"


KEY = "changed:error:KeyError at payment_gateway.py _reference [payment]"
LOGGED = signal(
    "app-errors", signal="new errors", test="novelty", critical=False, failed_before=None, failed_after=None, before=0.0, after=2.0, guilty=False,
    before_text="0 new in 1 hour", after_text="2 never seen before, 13 times: “KeyError at payment_gateway.py _reference [payment]”",
    news=[["error:slow", 1.0], [KEY, 12.0]],
)
NAMED = "new since the update: KeyError at payment_gateway.py _reference [payment], 12 times"


def test_what_is_new_in_the_log_stands_beside_the_worst_signal_although_it_is_no_alarm() -> None:
    signals = [signal(f"p{n}") for n in range(9)]
    lines = page(replace(REGRESSION, ruling={"signals": [*signals, LOGGED]})).evidence
    assert lines[:3] == ("*p0* failed 4 of 4, before 0 of 288", NAMED, "*p1* failed 4 of 4, before 0 of 288")
    assert len(lines) == 6


def test_a_new_error_that_alarms_is_told_once_and_names_the_part_that_was_changed() -> None:
    told = page(replace(REGRESSION, ruling={"signals": [LOGGED | {"guilty": True}]}), replace(FACTS, update=UPDATE))
    assert told.evidence == (NAMED,)
    assert told.culprit == (
        "update 2.0 (it changes payment 3.1, theme): judged against the time before it; the new error lies in payment, which this update changed"
    )


@pytest.mark.parametrize(
    ("news", "changes", "lies"),
    [
        ([["critical:x [theme]", 1.0], ["error:y", 9.0]], UPDATE.changes, "; the new critical error lies in theme, which this update changed"),
        ([["error:y [search]", 9.0], ["warning:x [theme]", 1.0]], UPDATE.changes, "; the new warning lies in theme, which this update changed"),
        ([["error:y [search]", 9.0], ["error:theme", 1.0]], UPDATE.changes, ""),
        ([["error:y [payment]", 9.0]], (), ""),
        ([], UPDATE.changes, ""),
    ],
)
def test_a_part_is_named_when_the_update_changed_it_and_never_else(news: Any, changes: Any, lies: str) -> None:
    facts = replace(FACTS, update=replace(UPDATE, changes=changes))
    row = LOGGED | {"news": news}
    assert page(replace(REGRESSION, ruling={"signals": [row]}), facts).culprit.endswith(f"judged against the time before it{lies}")
    row["control"] = True
    assert page(replace(REGRESSION, ruling={"signals": [row]}), facts).culprit.endswith("judged against the time before it")


def test_what_a_log_says_is_bounded_and_without_secrets_and_addresses() -> None:
    name = "error:\x1b[31m\r\nBcc: ann@customer.example 10.1.2.3 card 4111 1111 1111 1111 " + "x" * 5_000
    (told,) = page(replace(REGRESSION, ruling={"signals": [LOGGED | {"news": [[name, 1.0]], "guilty": True}]})).evidence
    assert told.startswith(r"new since the update: \x1b[31m Bcc: ")
    assert not any(part in told for part in ("ann@", "10.1.2.3", "4111 1111", "\n", "\r"))
    assert len(told) <= 300


def test_what_is_neither_a_failure_nor_a_time_is_told_in_its_own_quantities() -> None:
    many = LOGGED | {"signal": "errors", "test": "count", "news": [], "before_text": "3 a minute", "after_text": "41 a minute", "guilty": True}
    assert page(replace(REGRESSION, ruling={"signals": [many]})).evidence == ("*app-errors* errors: 41 a minute, before 3 a minute",)


def test_a_ruling_of_an_older_version_is_told_too() -> None:
    old = {name: value for name, value in LOGGED.items() if name not in {"news", "before_text", "after_text"}} | {"guilty": True}
    assert page(replace(REGRESSION, ruling={"signals": [old]})).evidence == ("*app-errors* new errors 2 s, before 0 ms",)


def test_the_whole_page_reads_like_this() -> None:
    incident = make_incident(update="01update", version="2.0", members=(make_member(evidence="connection refused by 443"),))
    facts = replace(FACTS, update=UPDATE, means={"pay": "Customers cannot pay"}, works=("home", "pay", "search"))
    text = page(incident, facts, told=("mail", "chat (not yet)"), runbook="https://wiki.example/pay").text()
    assert (
        text
        == """\
Customers cannot pay since 02:14: *pay* failed 4 of 4, before the update 0 of 288; the server refused the connection.

page · example-shop (production) · since 02:14, for 60 s, as of 02:15
Update: 2.0 (payment 3.1, theme), phase all https://till.example/updates/01update
Likely culprit: started 3 min after update 2.0
Still works: home, search
Newest evidence:
  *pay*: connection refused by 443
Do first: look at https://shop.example and at what update 2.0 changed; if it was the update, roll it back in the shop, \
then say so: `tillwatch update rollback 01update`
What that costs: looking costs nothing; a rollback takes back what the update brought
Also told: mail, chat (not yet)
Runbook: https://wiki.example/pay
Details: https://till.example/incidents/01incident
Why you get this: 4 of 4 runs failed and the failing lasted 60 s"""
    )


def test_a_regression_says_what_to_do_and_what_it_costs() -> None:
    told = page(REGRESSION, replace(FACTS, update=UPDATE))
    assert told.first == "roll update 2.0 back in the shop, then say so: `tillwatch update rollback 01update`"
    assert told.cost == "what the update brought is gone until it is mended; if it changed the database, orders since then may be lost with it"
    assert told.changed == "2.0 (payment 3.1, theme), phase all"
    assert page(REGRESSION, replace(FACTS, update=replace(UPDATE, status=Status.CLOSED))).changed == "2.0 (payment 3.1, theme), closed"


@pytest.mark.parametrize("update", [None, *(replace(UPDATE, status=s) for s in Status)])
def test_a_rollback_that_would_be_refused_is_not_advised(update: Update | None) -> None:
    taken = update is not None and update.status in {Status.OPEN, Status.OBSERVING}
    for incident in (REGRESSION, make_incident(update="01update", version="2.0")):
        first = page(incident, replace(FACTS, update=update)).first
        assert "in the shop" in first
        assert ("tillwatch update rollback 01update" in first) is taken


def test_what_goes_on_elsewhere_is_not_called_over() -> None:
    told = page(make_incident(update="01update", version="2.0", resolved=NIGHT + 60, resolution="part of incident 02other"))
    assert told.title.startswith("[merged] example-shop: Not over, but told together")


def test_a_long_regression_is_one_bounded_sentence() -> None:
    signals = [signal(f"p{n}" * 30) for n in range(200)]
    told = page(replace(REGRESSION, version="9" * 999, ruling={"signals": signals}), replace(FACTS, means={signals[0]["probe"]: "x" * 120 + "\n"}))
    assert len(told.sentence) <= 500
    assert "\n" not in told.sentence


def test_data_has_utc_times_and_no_empty_parts() -> None:
    data = page(make_incident()).data()
    assert data["began"] == "2026-09-22T02:14:00.000Z"
    assert data["members"][0]["since"] == "2026-09-22T02:14:00.000Z"
    assert not {"update", "culprit", "told", "resolved"} & data.keys()


def test_no_text_makes_a_page_large() -> None:
    members = tuple(make_member(f"p{n}" * 30, evidence="\N{PILE OF POO}" * 5_000 + "\x00\ud800\r\nBcc: x") for n in range(200))
    large = page(make_incident(members=members, cause="x" * 10_000, acked_by="y" * 5_000), replace(FACTS, works=("z" * 999,) * 500))
    assert len(large.text()) <= TEXT_LIMIT
    assert len(large.brief()) <= BRIEF_LIMIT
    assert "\n" not in large.title
    assert len(large.title) <= 250


SHOT, SAVED = f"{'1a' * 16}.png", f"{'2b' * 16}.txt"
KEPT = f"[screenshot artifacts/{SHOT}, page artifacts/{SAVED}]"


def test_the_newest_evidence_that_was_kept_can_be_looked_at_from_the_message() -> None:
    """However long the words before it are: they are cut, the addresses are not."""
    older = make_member("search", since=NIGHT - 60, evidence=f"an older one [screenshot artifacts/{'3c' * 16}.png]")
    newest = make_member("pay", evidence=f'step "pay": {"no button " * 200}{KEPT}')
    told = page(make_incident(members=(older, newest)), replace(FACTS, base="https://till.example/"))
    screenshot = f"https://till.example/artifacts/{SHOT}"
    assert told.kept == told.data()["artifacts"] == {"screenshot": screenshot, "page": f"https://till.example/artifacts/{SAVED}"}
    assert f"\nScreenshot: {screenshot}\n" in told.text()
    assert told.text().count("artifacts/") == 2, "the words before have no names in them"
    assert any(line.startswith('*pay*: step "pay": no button') for line in told.evidence)


def test_where_nothing_was_kept_no_address_is_told() -> None:
    for incident, facts in (
        (make_incident(), replace(FACTS, base="https://till.example")),
        (make_incident(members=(make_member("pay", evidence=KEPT),)), replace(FACTS, base="")),
        (make_incident(members=(make_member("pay", evidence=KEPT),), resolved=NIGHT + 60), replace(FACTS, base="https://till.example")),
        (make_incident(members=(make_member("pay", evidence="screenshot artifacts/../token.png"),)), replace(FACTS, base="https://till.example")),
    ):
        assert (page(incident, facts).kept, "artifacts" in page(incident, facts).data()) == ({}, False)


def test_a_shop_that_names_a_thousand_files_makes_no_large_page() -> None:
    evidence = " ".join(f"{letter * 3} artifacts/{SHOT}" for letter in "abcdefghijklmnopqrstuvwxyz" * 40)
    assert len(page(make_incident(members=(make_member("pay", evidence=evidence),)), replace(FACTS, base="https://till.example")).kept) == 5
