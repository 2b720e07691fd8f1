"""What the author of a flow sees: the page, the steps, the variables, and how far it may go."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import NoReturn

from playwright.async_api import Locator, Page

from probes.checkout.job import Ask, State, StepReport

PAYMENT = "payment"                  # a step of this name submits, said or not
MOST_STEPS = 60
MOST_ORDERS = 20
_LONGEST = 64                        # characters of a step's name and of an order's number
_WHOLE = 8                           # characters of a secret that is no part of an order's number by chance
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
    halt: Callable[[], Awaitable[None]]                              # from now on nothing that the flow does reaches the shop


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
    asking: float = 0.0              # s of the step under way that went by until it was known whether it may
    over: str = ""                   # why it may do no more
    stopped: bool = False


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
        """Numbers of the orders that were placed."""
        return self._state.orders

    @property
    def submitted(self) -> bool:
        """Whether it was allowed to submit, and may have done so."""
        return self._state.granted

    @property
    def stopped(self) -> bool:
        """Whether it came to the step before which it stops."""
        return self._state.stopped

    @property
    def over(self) -> str:
        """Why it may do no more; "" as long as it may."""
        return self._state.over

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
        text = str(number)
        for secret in (one for one in self._secrets.values() if len(one) >= _WHOLE):      # a page may say anything where a number should be
            text = text.replace(secret, "[hidden]")
        text = " ".join(text.split())[:_LONGEST]
        if text and text not in self._state.orders and len(self._state.orders) < MOST_ORDERS:
            self._state.orders.append(text)

    @contextlib.asynccontextmanager
    async def step(self, name: str, *, submits: bool = False) -> AsyncIterator[None]:
        """A named, timed part of the flow. It ends the flow where that is to stop; with `submits` it asks first whether it may."""
        await self._enter(name)
        if submits or name == PAYMENT:
            await self._grant()
        await self._hooks.told(name, "begun", 0.0, "")
        begun, self._state.asking = monotonic(), 0.0
        try:
            yield
        except BaseException as error:
            await self._leave(name, monotonic() - begun, self._hooks.reason(error))
            raise
        await self._leave(name, monotonic() - begun, "")
        await self._hooks.settle()

    async def _enter(self, name: str) -> None:
        if self._state.over:
            raise Refused(self._state.over)
        if name == self._limits.stop_before:
            self._state.stopped = True
            await self._end(f'the flow went on after "{name}", before which it is to stop: it must let go what a step raises')
            raise Stopped
        if self._state.within:
            raise FlowError(f'the step "{name}" stands inside the step "{self._state.within}": write one after the other')
        if not name or len(name) > _LONGEST or not name.isprintable():
            raise FlowError(f"a step's name has 1 to {_LONGEST} printable characters, unlike {name!r}")
        if any(step.name == name for step in self._state.steps) or len(self._state.steps) >= MOST_STEPS:
            raise FlowError(f'the step "{name}" comes twice, or there are more than {MOST_STEPS}: each has a name of its own')
        self._state.within = self._state.last = name
        self._hooks.entered(name)

    async def _leave(self, name: str, seconds: float, reason: str) -> None:
        seconds = max(0.0, seconds - self._state.asking)
        self._state.within = ""
        self._state.steps.append(StepReport(name, seconds, reason))
        await self._hooks.told(name, "failed" if reason else "ok", seconds, reason)

    async def submit(self, locator: Locator) -> None:
        """Click what places the order, if this run may: asked and recorded before the click, once a run."""
        if self._state.over:
            raise Refused(self._state.over)
        if self._state.clicked:
            await self._refuse(_TWICE)
        if not self._state.granted:
            await self._grant()
        self._state.clicked = True
        await locator.click()

    async def _grant(self) -> None:
        """Raises Refused."""
        if self._limits.stop_before:
            await self._refuse(f'the flow is to stop before "{self._limits.stop_before}" and wanted to submit')
        if self._state.granted:
            await self._refuse(_TWICE)
        began = monotonic()
        why = await self._hooks.ask()
        self._state.asking += monotonic() - began
        if why:
            await self._refuse(why)
        self._state.granted = True

    async def _refuse(self, why: str) -> NoReturn:
        await self._end(why)
        raise Refused(why)

    async def _end(self, why: str) -> None:
        self._state.over = why
        await self._hooks.halt()

    def end(self) -> None:
        """The run is over: what is left of the flow may do nothing more."""
        self._state.over = self._state.over or "the run is over"

    def reopen(self) -> None:
        """For the flow's own cleanup of what it ordered."""
        self._state.over = ""
