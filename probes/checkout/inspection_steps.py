"""What can be seen to be wrong with declared steps without running them. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

from probes.checkout.cards import refused_in
from probes.checkout.inspection import PASSWORD, PAYS, Remark, closing, password, remarks_on_end, too_early
from probes.checkout.steps import ASSERTIONS, Action, DeclaredStep
from probes.checkout.targets import parse

_PASSIVE = frozenset({"eval", "pause", "scroll", "dialog"})


def inspect_steps(steps: Sequence[DeclaredStep], stop_before: str = "payment") -> list[Remark]:
    """All remarks about a declared flow that is to stop before that step. `path` is below the probe's `step`: (number of the step, "do", number)."""
    often = Counter(step.name for step in steps)
    found: list[Remark] = []
    for number, step in enumerate(steps):
        if often[step.name] > 1:
            found.append(Remark(0, "error", f'there are {often[step.name]} steps "{step.name}": each has a name of its own', (number, "name")))
        found += _of_step(number, step)
        if stop_before in often and stop_before not in [earlier.name for earlier in steps[:number + 1]]:
            found += _too_early(number, step, stop_before)
    asks = any(step.submits or step.name == "payment" or any(action.submit for action in step.do) for step in steps)
    found += remarks_on_end([(step.name, 0, (number, "name")) for number, step in enumerate(steps)], stop_before, asks=asks)
    return sorted(set(found), key=lambda remark: (str(remark.path), remark))


def _of_step(number: int, step: DeclaredStep) -> Iterator[Remark]:
    last = next((action for action in reversed(step.do) if action.verb not in _PASSIVE), None)
    if last is None or not (last.verb in ASSERTIONS or (last.submit and last.path)):
        yield Remark(0, "warning", closing(step.name), (number, "do", len(step.do) - 1))
    for index, action in enumerate(step.do):
        for text in _of_action(action):
            yield Remark(0, "error" if "test card" in text else "warning", text, (number, "do", index))


def _of_action(action: Action) -> Iterator[str]:
    if action.pause:
        yield "pause always waits so long, and that is timed too: wait for what should come, with see"
    for target, value in (action.fill or action.type or {}).items():
        if card := next(iter(refused_in(value)), ""):
            yield f"{card} is no known test card: a probe never uses a real one; write {{secret.card}}"
        if PASSWORD.search(target) and "{" not in value:
            yield password()


def _too_early(number: int, step: DeclaredStep, stop_before: str) -> Iterator[Remark]:
    for index, action in enumerate(step.do):
        clicked = action.click or action.click_and_wait
        button = parse(clicked).parts[-1] if clicked else None
        if button and button.kind == "button" and PAYS.search(button.text):
            yield Remark(0, "warning", too_early(button.text, step.name, stop_before), (number, "do", index))
