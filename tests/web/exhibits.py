"""What a page can be made to show: updates with rulings of any size, and probes in any state."""

from dataclasses import asdict
from typing import Any

from shopfront import HOME, Front

from monitor.health import Flip, State
from monitor.incidents import Context, on_faults, on_flip
from monitor.incidents import Fault as OwnFault
from monitor.judge.explain import SignalRuling
from monitor.store import records
from monitor.updates import Changed, Status, Update
from probes.sample import Outcome, Sample


def signal(probe: str = "home", **values: Any) -> dict[str, Any]:
    """A signal as a ruling has it: one that is open, and needed for a pass."""
    facts: dict[str, Any] = {
        "probe": probe, "device": "", "cohort": "", "signal": "success", "test": "bernoulli", "critical": True, "required": True, "control": False,
        "n_before": 288, "n_after": 40, "before": 0.0, "after": 0.0, "before_p95": None, "after_p95": None, "failed_before": 0, "failed_after": 0,
        "ratio_lower": None, "ratio": None, "ratio_upper": None, "evidence": 0.4, "threshold": 2.4, "guilty": False, "ruled_clean": False,
        "power": 0.6, "needed": 54, "note": ""}
    return asdict(SignalRuling(**facts | values))


def slower(probe: str = "search", **values: Any) -> dict[str, Any]:
    return signal(probe, **{
        "signal": "duration", "test": "latency", "failed_before": None, "failed_after": None, "before": 0.312, "after": 0.744, "before_p95": 0.61,
        "after_p95": 1.42, "ratio_lower": 2.1, "ratio": 2.38, "ratio_upper": 2.7, "evidence": 4.9, "threshold": 2.6, "guilty": True} | values)


def many(count: int) -> list[dict[str, Any]]:
    """So many signals that are neither guilty nor needed."""
    return [signal(f"page-{number:03d}", required=False, critical=False, ruled_clean=number % 2 == 0, evidence=number / 100 - 0.5)
            for number in range(count)]


REGRESSION = "Some customers meet errors: *pay* failed 7 of 57 since the update, before 0 of 306; also worse: *search*."


def update(at: float, **values: Any) -> Update:
    """A regression in two signals, with everything else that an update can have."""
    signals = values.pop("signals", [
        *many(40), slower(), signal("pay", failed_after=7, after=0.12, n_after=57, evidence=3.4, guilty=True), signal("home", needed=None),
        signal("cart", ruled_clean=True, needed=31), signal("partner", control=True, required=False, critical=False),
        signal("basket", n_before=11, n_after=0, evidence=None, threshold=None, needed=None,
               note="only 11 runs before the update: too short a history")])
    verdict = values.get("verdict", "regression")
    ruling = {"verdict": verdict, "reason": values.pop("reason", "failures"), "sentence": values.pop("sentence", REGRESSION),
              "missing": values.pop("missing", ["home: needs about 14 more page loads (success)"]), "signals": signals, "alarmed_at": at}
    return Update(**{
        "id": "2026-09-21-1", "version": "8.4.1", "started": at - 1800, "by": "ci", "phase": "canary", "link": "https://git.example/releases/8.4.1",
        "changes": (Changed("woocommerce", "8.4.1"), Changed("payment-gateway", "3")), "segments": (at - 1800,), "verdict": "regression",
        "verdict_at": at - 600, "ruling": ruling} | values)


async def keep(shop: Front, update: Update, *acts: tuple[str, str, str]) -> None:
    """Store it, with what was done to it: (act, by, detail)."""
    def work(connection: Any) -> None:
        records.save_update(connection, update)
        for number, (act, by, detail) in enumerate(acts):
            records.add_act(connection, update.id, update.started + 60 * number, by, act, detail)
    await shop.store.write(work)


async def log(shop: Front, at: float, name: str, events: int = 1, example: str = "", probe: str = "app") -> None:
    """A run that started then found this error in the log."""
    counts = {"lines": 99, f"signature/{name}": events}
    shop.store.add_sample(Sample(probe, Outcome.OK, started=at, ended=at, spacing=5.0, counts=counts, examples={name: example} if example else {}))
    await shop.store.write(lambda _: None)


def target(probe: str, state: str = "up", **values: Any) -> dict[str, Any]:
    """A probe as the daemon tells of it."""
    return {"probe": probe, "device": "", "cohort": "", "kind": "http", "critical": False, "control": False, "state": state, "since": None,
            "outcome": "ok", "reason": "", "at": 1_790_000_000.0 - 12, "seconds": 0.125, "evidence": ""} | values


async def outage(shop: Front, probe: str = "home", evidence: str = "HTTP 502 from nginx", minutes: float = 14.0) -> None:
    now = shop.clock.now()
    flip = Flip(probe, *HOME[1:], State.UP, State.DOWN, "status", now, now - 60 * minutes, 3, 3, evidence=evidence)
    shop.casebook.apply(on_flip(shop.casebook.open, flip, Context(host="shop", critical=True), lambda: f"i-{probe}"), flip=flip)
    await shop.casebook.settled()


async def own_fault(shop: Front, said: str = "The disk that Tillwatch writes to is nearly full: soon it can keep nothing any more") -> None:
    now = shop.clock.now()
    shop.casebook.apply(on_faults(shop.casebook.open, {"self:disk": OwnFault(said)}, (), now, {"self:disk": now - 300}, lambda: "i-disk"))
    await shop.casebook.settled()


WATCHED = {"verdict": "watching", "verdict_at": None, "status": Status.OPEN}
