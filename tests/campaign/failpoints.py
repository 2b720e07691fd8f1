"""Places at which a daemon can end without a word, put around its parts from outside: the product has no switches for it.

Installed in the child that is to become a daemon, before it begins. `kind` is firing or resolved, `receiver` the one whose message is
meant ("" for points that concern none).
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from sqlite3 import Connection
from typing import Any

from aiohttp import ClientSession, TraceConfig

from monitor import casebook
from monitor.alerts import lane
from monitor.alerts.delivery import Delivered
from monitor.health import State

CODE = 42
ARRIVED = 0.05             # s after which what was sent has arrived; the receiver's answer takes longer
_current: ContextVar[tuple[str, str]] = ContextVar("_current", default=("", ""))


def install(point: str, kind: str, receiver: str) -> None:
    """The daemon will end at the first such point."""
    POINTS[point](kind, receiver)


def _end() -> None:
    os._exit(CODE)


def _before_commit(kind: str, _receiver: str) -> None:
    """All is written, and nothing is committed."""
    original = casebook.Casebook._write_all

    def write_all(self: Any, connection: Any, turns: Sequence[Any], stale: set[int]) -> None:
        original(self, connection, turns, stale)
        if any(transition.what == kind for turn in turns for transition in turn.transitions):
            _end()
    casebook.Casebook._write_all = write_all  # type: ignore[method-assign]


def _gathered(kind: str, receiver: str) -> None:
    """As before the commit, but what is no page was gathered for longer: until later runs of the same probe have been committed."""
    original = casebook.Casebook._committed

    async def committed(self: Any, turns: Sequence[Any]) -> bool:
        well = {turn.flip.probe for turn in turns if turn.flip and turn.flip.new is State.UP}
        while well & set(await self._store.read(_down)):  # noqa: ASYNC110 - nothing tells when the writer has committed them
            await asyncio.sleep(0.02)
        return await original(self, turns)
    casebook.Casebook._committed = committed  # type: ignore[method-assign]
    _before_commit(kind, receiver)


def _down(connection: Connection) -> list[str]:
    """The probes that are down, as is committed."""
    return [probe for probe, in connection.execute("SELECT probe FROM health WHERE json_extract(state, '$.down')")]


def _after_commit(kind: str, _receiver: str) -> None:
    """Committed, and nobody has been told of it, not even within the daemon."""
    original = casebook.Casebook._told

    def told(self: Any, turn: Any, stale: set[int]) -> None:
        if any(transition.what == kind for transition in turn.transitions):
            _end()
        original(self, turn, stale)
    casebook.Casebook._told = told  # type: ignore[method-assign]


def _after_connect(kind: str, receiver: str) -> None:
    """Connected, and nothing sent."""
    async def connected(*_: object) -> None:
        if _current.get() == (receiver, kind):
            _end()
    _traced(lambda trace: trace.on_connection_create_end.append(connected))


def _after_sent(kind: str, receiver: str) -> None:
    """Sent, and no answer come."""
    async def sent(*_: object) -> None:
        if _current.get() == (receiver, kind):
            asyncio.get_running_loop().call_later(ARRIVED, _end)
    _traced(lambda trace: trace.on_request_chunk_sent.append(sent))


def _traced(add: Callable[[TraceConfig], None]) -> None:
    """Sessions of lanes that tell how far a request is, and deliveries of which it is known whose they are."""
    opened, deliver = lane.open_session, lane.Lane._deliver

    def open_session() -> ClientSession:
        session, trace = opened(), TraceConfig()
        add(trace)
        trace.freeze()
        session.trace_configs.append(trace)
        return session

    async def named(self: Any, parcel: Any) -> None:
        _current.set((self.name, parcel.row.kind))
        await deliver(self, parcel)
    lane.open_session, lane.Lane._deliver = open_session, named  # type: ignore[method-assign]


def _settling(kind: str, receiver: str, *, written: bool) -> None:
    original = lane.Lane._settle

    async def settle(self: Any, parcel: Any, result: Any) -> str:
        ours = isinstance(result, Delivered) and (self.name, parcel.row.kind) == (receiver, kind)
        if ours and not written:
            _end()
        state = await original(self, parcel, result)
        if ours:
            _end()
        return state
    lane.Lane._settle = settle  # type: ignore[method-assign]


POINTS: dict[str, Callable[[str, str], None]] = {
    "before commit": _before_commit,
    "before commit, long gathered": _gathered,
    "after commit": _after_commit,
    "after connect": _after_connect,
    "after request sent": _after_sent,
    "after 2xx before mark-done": lambda kind, receiver: _settling(kind, receiver, written=False),
    "after mark-done": lambda kind, receiver: _settling(kind, receiver, written=True),
}
