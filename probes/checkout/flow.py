"""What the author of a flow sees: the page, the steps, the variables, and how far it may go."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from playwright.async_api import Locator, Page

from probes.checkout.job import Ask, State, StepReport

PAYMENT = "payment"                  # a step of this name submits, said or not
MOST_STEPS = 60
MOST_ORDERS = 20
_LONGEST = 64                        # characters of a step's name and of an order's number
_TWICE = "the flow wanted to submit a second time in one run"


class Stopped(BaseException):
    """The flow came to the step before which it stops. No Exception, so that a flow's own `except` does not take it for an error."""


class Refused(BaseException):
    """The flow wanted to submit and may not: the words say why."""


class FlowError(Exception):
    """The flow itself is wrong, not the shop."""


@dataclass(slots=True)
class Hooks:
    """What the engine wants to know while a flow runs. `settle` comes after a step that passed, outside its time."""

    entered: Callable[[str], None]
    told: Callable[[str, State, float, str], Awaitable[None]]        # step, how it stands, s, reason
    settle: Callable[[], Awaitable[None]]
    reason: Callable[[BaseException], str]
    ask: Ask


@dataclass(slots=True)
class Limits:
    """How far a flow may go. Durations in s."""

    stop_before: str
    timeout: float                   # of one action or assertion


@dataclass(slots=True)
class _State:
    steps: list[StepReport] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    within: str = ""                 # the step under way
    last: str = ""                   # the newest one that was entered
    granted: bool = False            # it may submit, once
    clicked: bool = False


class Flow:
    """One walk through the shop. `page` is Playwright's page; paths in `page.goto` are below the shop's address, `url`."""

    def __init__(self, page: Page, url: str, limits: Limits, variables: Mapping[str, str], secrets: Mapping[str, str], hooks: Hooks) -> None:
        self.page = page
        self.url = url
        self.vars = dict(variables)
        self._limits, self._secrets, self._hooks, self._state = limits, secrets, hooks, _State()

    @property
    def timeout(self) -> float:
        """What one action or assertion may take, in s."""
        return self._limits.timeout

    @property
    def steps(self) -> list[StepReport]:
        """The steps that are over."""
        return self._state.steps

    @property
    def orders(self) -> list[str]:
        """Numbers of the orders that were placed and not yet cancelled."""
        return self._state.orders

    @property
    def submitted(self) -> bool:
        """Whether it was allowed to submit, and may have done so."""
        return self._state.granted

    @property
    def within(self) -> str:
        """The step under way, or the last one."""
        return self._state.within or self._state.last

    def secret(self, name: str) -> str:
        """A secret of the probe's `secrets`. Type it into the page; it is hidden in everything that leaves this process."""
        try:
            return self._secrets[name]
        except KeyError:
            raise FlowError(f'there is no secret "{name}": add it to the probe\'s secrets') from None

    def order(self, number: str) -> None:
        """Note the number of an order that was placed, so that it is cancelled, or that somebody hears of it."""
        text = " ".join(str(number).split())[:_LONGEST]
        if text and text not in self._state.orders and len(self._state.orders) < MOST_ORDERS:
            self._state.orders.append(text)

    @contextlib.asynccontextmanager
    async def step(self, name: str, *, submits: bool = False) -> AsyncIterator[None]:
        """A named, timed part of the flow. It ends the flow where that is to stop; with `submits` it asks first whether it may."""
        self._enter(name)
        if submits or name == PAYMENT:
            await self._grant()
        await self._hooks.told(name, "begun", 0.0, "")
        begun = monotonic()
        try:
            yield
        except BaseException as error:
            await self._leave(name, monotonic() - begun, self._hooks.reason(error))
            raise
        await self._leave(name, monotonic() - begun, "")
        await self._hooks.settle()

    def _enter(self, name: str) -> None:
        if self._state.within:
            raise FlowError(f'the step "{name}" stands inside the step "{self._state.within}": write one after the other')
        if not name or len(name) > _LONGEST or not name.isprintable():
            raise FlowError(f"a step's name has 1 to {_LONGEST} printable characters, unlike {name!r}")
        if any(step.name == name for step in self._state.steps) or len(self._state.steps) >= MOST_STEPS:
            raise FlowError(f'the step "{name}" comes twice, or there are more than {MOST_STEPS}: each has a name of its own')
        if name == self._limits.stop_before:
            raise Stopped
        self._state.within = self._state.last = name
        self._hooks.entered(name)

    async def _leave(self, name: str, seconds: float, reason: str) -> None:
        self._state.within = ""
        self._state.steps.append(StepReport(name, seconds, reason))
        await self._hooks.told(name, "failed" if reason else "ok", seconds, reason)

    async def submit(self, locator: Locator) -> None:
        """Click what places the order, if this run may: asked and recorded before the click, once a run."""
        if self._state.clicked:
            raise Refused(_TWICE)
        if not self._state.granted:
            await self._grant()
        self._state.clicked = True
        await locator.click()

    async def _grant(self) -> None:
        """Raises Refused."""
        if self._limits.stop_before:
            raise Refused(f'the flow is to stop before "{self._limits.stop_before}" and wanted to submit')
        if self._state.granted:
            raise Refused(_TWICE)
        if why := await self._hooks.ask():
            raise Refused(why)
        self._state.granted = True
