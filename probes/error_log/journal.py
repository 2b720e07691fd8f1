"""Following systemd's journal: every entry given once, whatever is killed, rotated or vacuumed when."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from probes.error_log.journal_child import DENIED, Child
from probes.error_log.journal_cursor import Arrivals, Cursor, just_after, sequence
from probes.error_log.journal_entries import Entry, Lines, Placed, decode, texts
from probes.error_log.journal_settings import JournalSettings

__all__ = ["Batch", "Cursor", "Entry", "Journal", "JournalSettings", "texts"]

YOUNG = 1.0                # s; the lines of a traceback follow each other faster
FIRST, NEXT = 0.5, 0.05    # s to wait for the first that a new child gives, and for more of what was coming
SKEW = 10.0                # s by which a clock may differ and its entries still be taken for those of now
_SLICE = 64 * 1024         # bytes between two chances for others to run, about 2 ms
_SILENT = "journalctl does not answer"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read gave. Whoever commits `entries` commits `cursor` with them.

    `behind`: there is more. `problem`: the journal cannot be followed, and why. `warning`: something that a person should know, though it is being
    followed. `gap`: so many entries, of whatever unit, were removed from the journal before they were read, at most and as far as that
    can be known.
    """

    entries: tuple[Entry, ...]
    cursor: Cursor
    behind: bool = False
    gap: int = 0
    problem: str = ""
    warning: str = ""


@dataclass(slots=True)
class _Told:
    """What the next batch tells beside its entries."""

    gap: int = 0
    problem: str = ""
    warnings: dict[str, None] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        self.warnings[text] = None


class Journal:
    """Follows the journal by a child that is kept between the reads, and could be thrown away at any time."""

    def __init__(self, settings: JournalSettings) -> None:
        self._settings, self._wanted = settings, settings.wanted()
        self._child: Child | None = None
        self._behind = False                     # whether the child had more when one stopped reading
        self._blind = ""                         # why it does not see the whole journal
        self._lines, self._told = Lines(), _Told()
        self._arrivals = Arrivals(Cursor(), self._wanted)

    async def read(self, cursor: Cursor | None, now: float, seconds: float) -> Batch:
        """What was logged since `cursor`, or so much of it as comes within `seconds`; `now` is Unix time.

        Without a cursor nothing, but the one behind the newest entry. What is younger than a second is left for the next time, so that no
        traceback is given in halves. It may be cancelled at any time.
        """
        end = time.monotonic() + seconds
        if cursor is None or not cursor.known:
            return await self._begin(now, end, "" if cursor is None else "what was remembered of the journal cannot be read: followed from now on")
        if cursor != self._arrivals.cursor:
            await self.close()
            self._arrivals, self._told = Arrivals(cursor, self._wanted), _Told()
        self._told.problem = ""
        await self._gather(now, end)
        return self._batch(now)

    async def close(self) -> None:
        """End the child. A line of which it has written the half is written again by the next one."""
        child, self._child = self._child, None
        self._lines = Lines()
        if child:
            await child.end()

    async def _begin(self, now: float, end: float, warning: str) -> Batch:
        """The very first read, which only finds where the journal ends now. Of one that is empty or cannot be read yet all will be read."""
        newest, problem = await self._ask(["--lines=1"], end)
        problem = problem or await self._denied(end)
        if not (newest or problem or warning):
            warning = "the journal is empty: nothing was ever logged, or systemd-journald does not run"
        return Batch((), just_after(newest) if newest else Cursor(realtime=max(1, int(now * 1e6))), problem=problem, warning=warning)

    async def _denied(self, end: float) -> str:
        """Why only a part of the journal can be seen, such as the user's own; "" when it is all. With JSON journalctl would not tell."""
        _, said = ("", "") if os.geteuid() == 0 else await self._ask(["--lines=0"], end, json=False)
        return said if said == DENIED else ""

    async def _ask(self, arguments: Sequence[str], end: float, *, json: bool = True) -> tuple[Placed | None, str]:
        """The first entry that a journalctl gives that does not follow; and why it gives none, where there is a reason."""
        try:
            output = ["--output=json", "--output-fields=PRIORITY"] if json else []
            child = Child.start([*output, *self._settings.place(), *arguments])
        except OSError as error:
            return None, _unstarted(error)
        lines = Lines()
        try:
            while (data := child.read(_SLICE)) != b"":
                if found := next(filter(None, map(decode, lines.feed(data or b""))), None):
                    return found, ""
                if data is None and not await child.wait(end - time.monotonic()):
                    return None, _SILENT
        finally:
            await child.end()
        return None, child.ending() if child.failed else child.complaint()

    async def _gather(self, now: float, end: float) -> None:
        """Let arrive what is there. A child that has died meanwhile is replaced; one that dies at once is not, until the next time."""
        for _ in range(2):
            child, new = self._child, not self._child
            if not child and not (child := await self._start(now, end)):
                return
            if not await self._drain(child, now, end, new=new):
                self._told.problem = self._blind
                return
            await self.close()
            if new:
                self._told.problem = child.ending()
                return
            self._told.warn(f"journalctl was started again: {child.ending()}")

    async def _start(self, now: float, end: float) -> Child | None:
        """A child that goes on where everything ends that has arrived."""
        if not (start := await self._whence(self._arrivals.end(), now, end)):
            return None
        self._blind = await self._denied(end)
        try:
            self._child = Child.start(self._settings.follow(start))
        except OSError as error:
            self._told.problem = _unstarted(error)
        return self._child

    async def _whence(self, cursor: Cursor, now: float, end: float) -> str:
        """The option of journalctl with which to go on behind a cursor; "" when there is a problem.

        Never --after-cursor: it passes over the first entry that it finds even when that is not the cursor's, which is gone or is not among what is
        followed (systemd 252). What was read is known when it comes again. And the cursor of an entry that is gone, or was another machine's,
        journalctl takes for the place that is nearest, and says nothing.
        """
        since = min(cursor.since, int(now * 1e6))
        by_time, by_cursor = f"--since=@{since // 1_000_000}.{since % 1_000_000:06}", f"--cursor={cursor.at}"
        if not cursor.at:
            return by_time
        found, problem = await self._ask([by_cursor, "--lines=1"], end)
        if (found and found.cursor == cursor.at) or problem == _SILENT:
            return by_cursor
        if problem and "seek to cursor" not in problem:
            self._told.problem = problem
            return ""
        (numbering, number), (its, following) = sequence(cursor.at), sequence(found.cursor if found else "")
        if found and its == numbering and following > number:
            if found.realtime > cursor.clear and (lost := following - number - 1):
                self._told.gap += lost
                self._told.warn(f"up to {lost} entries were removed from the journal before they were read")
            return by_cursor
        self._told.warn("the journal does not know the entry that was read last: followed by time, from just before it")
        return by_time

    async def _drain(self, child: Child, now: float, end: float, *, new: bool) -> bool:
        """Let arrive what the child gives, until that is what is logged now. Whether it has ended."""
        patience = FIRST if new else NEXT if self._behind else 0.0
        self._behind = True
        while not self._arrivals.full and time.monotonic() < end:
            data = child.read(_SLICE)
            if data == b"":
                self._behind = False
                return True
            if data is None and (abs(self._arrivals.newest - now) < YOUNG or not await child.wait(min(patience, end - time.monotonic()))):
                self._behind = patience > 0 and time.monotonic() >= end
                if patience < FIRST and not self._behind:
                    self._arrivals.all_read_until(int((now - YOUNG) * 1e6))
                return False
            self._arrive(data or b"")
            if 0 <= self._arrivals.newest - now < SKEW:
                self._behind = False
                return False
            patience = NEXT if data else patience
            await asyncio.sleep(0)
        return False

    def _arrive(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            if placed := decode(line):
                self._arrivals.add(placed)
            else:
                self._told.warn("journalctl wrote a line that is no entry; it was passed over")

    def _batch(self, now: float) -> Batch:
        held = 0.0 if self._arrivals.full or not self._child else YOUNG
        entries = self._arrivals.take(lambda entry: abs(now - entry.realtime) < held)
        told, self._told = self._told, _Told()
        return Batch(entries, self._arrivals.cursor, self._behind, told.gap, told.problem, "; ".join(told.warnings))


def _unstarted(error: OSError) -> str:
    return "journalctl: not found" if isinstance(error, FileNotFoundError) else f"journalctl cannot be started: {error.strerror}"
