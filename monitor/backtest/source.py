"""What a backtest is made of, wherever the history comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from monitor.clock import span
from monitor.judge.backtest import History, Plan, Span, required


@dataclass(frozen=True, slots=True)
class Shop:
    """One shop's histories, and the times of its real updates. `name` is "" when there is only one shop."""

    name: str
    histories: Sequence[History]
    plan: Plan
    updates: Sequence[Span] = ()

    @property
    def begun(self) -> float:
        """Unix s, of the first run."""
        return min(history.runs[0].at for history in self.histories if history.runs)

    @property
    def ended(self) -> float:
        return max(history.runs[-1].at for history in self.histories if history.runs)


@dataclass(frozen=True, slots=True)
class Source:
    """The shops of a store or a file; `left_out` are those parts that are too short, with why; `settings` says whose they are."""

    name: str
    settings: str
    shops: Sequence[Shop]
    left_out: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    own_updates: int = field(default=0)


def fit(name: str, histories: Sequence[History], plan: Plan, updates: Sequence[Span] = ()) -> tuple[Shop, list[tuple[str, str]]]:
    """The shop without the targets that no placebo update fits into, and those with why."""
    needed = {history.subject.key for history in required(histories)}
    kept, short = [], []
    for history in histories:
        if not history.runs or (history.subject.key in needed and history.hopeless(plan)):
            lacking = history.wanted(plan) - len(history.runs)
            why = f"{len(history.runs)} of {history.wanted(plan)} runs, {span(lacking * history.spacing)} more"
            short.append((label(name, history.subject.name), why))
        else:
            kept.append(history)
    return Shop(name, kept, plan, updates), short


def label(shop: str, target: str) -> str:
    """How a person is told of a target, which may be all that there is of its shop."""
    return target if shop in {"", target} else f"{shop}: {target}"
