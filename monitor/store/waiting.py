"""What is handed to the writer thread, and the samples that wait there for their commit."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from monitor.health import Health, Target
from monitor.store.transaction import Work
from probes.sample import Sample


@dataclass
class Batch:
    """What is gathered until the next commit: samples in order, and the newest health of targets that are not well."""

    samples: list[Sample] = field(default_factory=list)
    health: dict[Target, Health] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.samples or self.health)


@dataclass
class Job:
    """What somebody waits for. `essential`: it must go on when the disk cannot be written."""

    work: Work[Any]
    essential: bool
    future: asyncio.Future[Any]


class Ring:
    """Samples that wait for their commit; the oldest give way."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._batches: deque[tuple[float, list[Sample]]] = deque()
        self._count = 0
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._batches)

    def add(self, batch: list[Sample], now: float) -> None:
        """Take `batch` in at `now` (monotonic s)."""
        if batch:
            self._batches.append((now, batch))
            self._count += len(batch)
        while self._batches and (gone := self._surplus(now)):
            del self._batches[0][1][:gone]
            self._count -= gone
            self.dropped += gone
            if not self._batches[0][1]:
                self._batches.popleft()

    def bite(self, most: int) -> tuple[int, list[Sample]]:
        """The oldest samples, as whole batches with together about `most`, and how many batches that is."""
        taken: list[Sample] = []
        for number, (_, batch) in enumerate(self._batches):
            if number and len(taken) + len(batch) > most:
                return number, taken
            taken = taken + batch if taken else batch
        return len(self._batches), taken

    def committed(self, batches: int) -> None:
        for _ in range(batches):
            self._count -= len(self._batches.popleft()[1])

    def _surplus(self, now: float) -> int:
        since, oldest = self._batches[0]
        return len(oldest) if now - since > self._seconds else min(max(self._count - self._most, 0), len(oldest))
