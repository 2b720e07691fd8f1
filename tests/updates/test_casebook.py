"""What the books hold back, and what Tillwatch finds wrong with itself."""

import pytest
from stage import HOME, PAY, Actor, Make, Stage, receiver

from monitor import selfwatch
from monitor.alerts import outbox
from monitor.alerts.delivery import DeliveryError
from monitor.alerts.outbox import Ailing
from monitor.health import Flip, State
from monitor.incidents import Context, Fault, acknowledged, on_flip
from monitor.selfwatch import Facts, SelfWatch, Views, faults, looked
from monitor.store import records

# ---- silences


async def silence(stage: Stage, *probes: str, seconds: float = 3600.0) -> str:
    return (await stage.silences.add(probes, seconds, "why", "anna")).id


async def test_a_silenced_outage_is_recorded_and_told_when_the_silence_ends(stage: Stage) -> None:
    await silence(stage, "p?y", seconds=600)
    await stage.live(4, failing=["pay"])
    (incident,) = await stage.incidents()
    assert (incident.open, incident.told, stage.paged, await stage.outbox()) == (True, False, [], [])
    await stage.live(20, failing=["pay"])
    assert (stage.paged, await stage.outbox()) == (["outage"], [("firing", "outage")])
    steps = await stage.store.read(lambda c: records.incident_steps(c, incident.id))
    assert [(s["what"], s["detail"]) for s in steps] == [("firing", ""), ("firing", "no longer muted")]


async def test_what_somebody_took_while_it_was_silenced_pages_nobody_later(stage: Stage) -> None:
    await silence(stage, "pay", seconds=600)
    await stage.live(4, failing=["pay"])
    stage.casebook.apply([acknowledged(stage.casebook.open[0], "ann", stage.clock.now())], by="ann")
    await stage.live(20, failing=["pay"])
    assert (stage.paged, await stage.outbox()) == ([], [])


async def test_what_is_over_before_the_silence_ends_is_never_told(stage: Stage) -> None:
    await silence(stage, "pay", seconds=600)
    await stage.live(4, failing=["pay"])
    await stage.live(30)
    assert [i.open for i in await stage.incidents()] == [False]
    assert (stage.paged, await stage.outbox()) == ([], [])


async def test_one_probe_that_is_not_silenced_is_enough_to_be_told_at_once(make: Make) -> None:
    stage = await make(past=5)
    await silence(stage, "pay")
    now = stage.clock.now()
    for probe, expected in (("pay", []), ("home", [("firing", "outage")])):
        flip = Flip(probe, "", "", State.UP, State.DOWN, "status", now, now, 3, 3)
        stage.casebook.apply(on_flip(stage.casebook.open, flip, Context(host="one"), lambda: "i1"), flip=flip)
        assert await stage.outbox() == expected


async def test_what_was_told_before_the_silence_is_not_taken_back_and_its_end_is_told(stage: Stage) -> None:
    await stage.live(4, failing=["pay"])
    await silence(stage, "pay")
    assert stage.casebook.muted(stage.casebook.open[0], stage.clock.now())
    await stage.live(1, failing=["pay"])
    assert stage.casebook.open[0].told
    await stage.live(4)
    assert await stage.outbox() == [("firing", "outage"), ("resolved", "outage")]


async def test_a_regression_is_held_back_when_all_probes_that_it_names_are_silenced(stage: Stage) -> None:
    await silence(stage, "pay")
    await stage.start()
    await stage.until("regression", slow=["pay"])
    assert (await stage.outbox(), stage.paged) == ([], [])
    ended = await stage.silences.end(stage.silences.recent()[0].id, "ben")
    assert ended is not None
    await stage.look()
    assert await stage.outbox() == [("firing", "regression")]


async def test_a_silence_mutes_the_metric_of_its_probes_and_holds_over_a_restart(stage: Stage) -> None:
    await silence(stage, "pay")
    await stage.restart()
    await stage.look()

    async def nothing() -> None:
        return None
    text = b"".join([part async for part in stage.exporter.render(nothing, open_metrics=False)]).decode()
    muted = {line.split('probe="')[1].split('"')[0]: line[-1] for line in text.splitlines() if line.startswith("tillwatch_probe_muted{")}
    assert muted == {"home": "0", "pay": "1"}
    assert stage.silences.targets(stage.clock.now()) == {PAY}


async def test_a_silence_goes_on_when_the_configuration_changes(stage: Stage) -> None:
    await silence(stage, "pay", "home*")
    stage.silences.change([HOME, ("home-new", "", "")])
    assert stage.silences.targets(stage.clock.now()) == {HOME, ("home-new", "", "")}
    stage.silences.change([PAY])
    assert stage.silences.targets(stage.clock.now()) == {PAY}


# ---- what is wrong with us: the decision


SICK = Ailing(since=100.0, reason="HTTP 403", refused=True, pages=2)
GIB = 1 << 30
WELL = Facts(now=10_000.0, started=9_000.0, free=50 * GIB, size=100 * GIB)


def with_(**changes: object) -> Facts:
    return Facts(**{name: getattr(WELL, name) for name in Facts.__slots__} | changes)  # type: ignore[arg-type]


def test_nothing_is_wrong_with_a_daemon_that_is_well() -> None:
    assert faults(WELL) == {}
    assert faults(with_(size=0, free=0)) == {}, "a file system that cannot be asked"


@pytest.mark.parametrize(("changes", "cause", "urgency", "word"), [
    ({"trouble": "the disk is full", "failing_at": 9_900.0}, "store", "ticket", "the disk is full"),
    ({"stuck": 10.0}, "store", "ticket", "waits for its disk"),
    ({"free": (256 << 20) - 1}, "disk", "ticket", "nearly full"),
    ({"free": 4 * GIB}, "disk", "ticket", "nearly full"),
    ({"log_size": (256 << 20) + 1}, "log", "ticket", "log"),
    ({"repaired": "the newest copy was taken"}, "repaired", "ticket", "the newest copy was taken"),
    ({"overdue": 10.0}, "busy", "ticket", "busy"),
    ({"overloaded": True}, "busy", "ticket", "busy"),
    ({"refused": "line 3: unknown key"}, "reload", "ticket", "line 3: unknown key"),
    ({"stepped": -3600.0, "stepped_at": 9_999.0}, "clock", "ticket", "back by 1 h"),
    ({"stepped": 90.0, "stepped_at": 9_999.0}, "clock", "ticket", "forward by 2 min"),
    ({"ailing": {"sms": SICK}}, "receiver:sms", "page", "HTTP 403"),
    ({"ailing": {"sms": Ailing(100.0, "x", refused=False, pages=0)}}, "receiver:sms", "ticket", "cannot be reached"),
])
def test_each_fault_has_its_cause_its_worth_and_its_words(changes: dict[str, object], cause: str, urgency: str, word: str) -> None:
    ((found, fault),) = faults(with_(**changes)).items()
    assert (found, fault.urgency) == (f"self:{cause}", urgency)
    assert word in fault.said
    assert faults(with_(**changes, now=10_004.0)) == {found: fault}, "the same words at the next look"
    assert fault.after + selfwatch.LOOK_SECONDS <= 60


@pytest.mark.parametrize("changes", [
    {"free": 256 << 20, "size": GIB}, {"free": 11 * GIB, "size": 1000 * GIB}, {"log_size": 256 << 20}, {"overdue": 9.9}, {"stuck": 9.9},
    {"repaired": "mended", "started": 6_000.0}, {"stepped": 60.0, "stepped_at": 6_000.0}, {"ailing": {"sms": SICK}, "lost": True}])
def test_what_is_no_fault(changes: dict[str, object]) -> None:
    assert faults(with_(**changes)) == {}


def test_a_fault_that_is_away_for_a_moment_was_never_away() -> None:
    fault = {"self:busy": Fault("busy")}
    seen = looked({}, fault, 100.0)
    seen = looked(seen, {}, 105.0)
    seen = looked(looked(seen, {}, 110.0), fault, 114.0)
    assert seen["self:busy"].since == 100.0
    assert looked(seen, {}, 129.0) == {}
    assert looked(seen, fault, 130.0)["self:busy"].since == 130.0


# ---- what is wrong with us: the books


class Ours:
    """A self-watch on a stage, looked through every five seconds."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.overdue, self.refused = stage, 0.0, ""
        self.begin()

    def begin(self) -> None:
        self.watch = SelfWatch(self.stage.store, self.stage.casebook, self.stage.clock, Views(lambda: self.overdue, refused=lambda: self.refused))

    async def look(self, seconds: float = 0.0) -> list[str]:
        """The causes that are open after so many seconds of looks."""
        for _ in range(int(seconds / 5) or 1):
            await self.watch.look()
            self.stage.clock.at += 5
        await self.stage.casebook.settled()
        return sorted(i.cause for i in self.stage.casebook.open)


@pytest.fixture
async def ours(make: Make, monkeypatch: pytest.MonkeyPatch) -> Ours:
    monkeypatch.setattr(selfwatch, "_file_system", lambda _store: (50 * GIB, 100 * GIB))
    wants = receiver(name="second", on=["outage", "monitor_fault"], urgency="ticket")
    return Ours(await make(past=5, actors=(Actor("home"), Actor("pay")), receivers=[receiver(), wants]))


async def test_a_fault_is_told_once_it_has_lasted_and_ends_when_it_is_gone_for_a_while(ours: Ours) -> None:
    ours.overdue = 30.0
    assert await ours.look(50) == []
    assert await ours.look(10) == ["self:busy"]
    assert await ours.look(60) == ["self:busy"]
    ours.overdue = 0.0
    assert await ours.look(10) == ["self:busy"]
    assert await ours.look(10) == []
    (incident,) = await ours.stage.incidents()
    assert (incident.opened - incident.began, incident.resolution) == (50.0, "mended")
    assert await ours.stage.outbox() == [("firing", "monitor_fault"), ("resolved", "monitor_fault")]


async def test_a_short_fault_is_told_to_nobody(ours: Ours) -> None:
    ours.overdue = 30.0
    await ours.look(40)
    ours.overdue = 0.0
    assert await ours.look(60) == []
    assert await ours.stage.incidents() == []


async def test_a_restart_doubles_no_fault_and_ends_what_was_mended_meanwhile(ours: Ours) -> None:
    ours.refused = "line 3"
    assert await ours.look() == ["self:reload"]
    await ours.stage.restart()
    ours.begin()
    assert await ours.look(60) == ["self:reload"]
    assert len(await ours.stage.incidents()) == 1
    ours.refused = ""
    await ours.stage.restart()
    ours.begin()
    assert await ours.look(10) == ["self:reload"], "not before it has looked for a while"
    assert await ours.look(15) == []


async def test_a_full_disk_is_told_from_memory(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(ours.stage.store), "trouble", "the disk is full")
    monkeypatch.setattr(type(ours.stage.store), "failing_since", 1.0)
    assert await ours.look(30) == []
    assert await ours.look(5) == ["self:store"]
    monkeypatch.setattr(type(ours.stage.store), "trouble", "the file system is read-only")
    await ours.look()
    (incident,) = ours.stage.casebook.open
    assert "read-only" in incident.said
    assert await ours.stage.outbox() == [("firing", "monitor_fault")], "other words are no new page"


async def test_a_receiver_that_refuses_a_page_for_good_is_told_to_the_others_within_a_minute(ours: Ours) -> None:
    stage = ours.stage
    await stage.live(4, failing=["pay"])
    for _ in range(2):
        def refuse(connection: object) -> None:
            for parcel in outbox.claim(connection, "hook", "boot", stage.clock.now(), 8):  # type: ignore[arg-type]
                outbox.settle(connection, parcel.row.id, DeliveryError("HTTP 403", permanent=True, code="403"), stage.clock.now())  # type: ignore[arg-type]
        await stage.store.write(refuse)
        stage.clock.at += 3
    assert await ours.look() == ["errors@pay.example", "self:receiver:hook"]
    fault = next(i for i in stage.casebook.open if i.kind == "monitor_fault")
    assert (fault.urgency, "HTTP 403" in fault.said) == ("page", True)
    rows = await stage.store.read(lambda c: c.execute("SELECT receiver FROM outbox WHERE incident = ?", (fault.id,)).fetchall())
    assert rows == [("second",)]
    for _ in range(2):
        await stage.live(2)
    assert await ours.look(30) == [], "with the outage its page is over too"


async def test_the_wall_clock_being_set_is_told_once(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await ours.look(20) == []
    monkeypatch.setattr(type(ours.stage.clock), "shift", 3600.0)
    assert await ours.look(5) == ["self:clock"]
    ours.stage.clock.at += 3600
    assert await ours.look(30) == []
