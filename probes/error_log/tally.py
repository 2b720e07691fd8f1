"""What one run has counted."""

from collections import Counter
from dataclasses import dataclass, field

from probes.error_log.event import LEVELS, Level
from probes.error_log.signature import example

# Signatures that are told apart in one run; what is more counts as "(others)" of its level. A flood of warnings leaves room for an error.
MOST_SIGNATURES: dict[Level, int] = {"critical": 100, "error": 100, "warning": 50}


@dataclass(frozen=True, slots=True)
class Known:
    """An event that was read once and is known again by its bytes: its level, its signature, and how it read. That is not scrubbed yet."""

    level: Level
    name: str
    text: str


@dataclass(slots=True)
class Tally:
    """Counts of lines and events; of requests by path group when an access log was read."""

    lines: int = 0
    partial: int = 0                                                     # lines without an end that were taken as they were
    events: Counter[Level] = field(default_factory=Counter)
    signatures: Counter[str] = field(default_factory=Counter)
    kinds: Counter[Level] = field(default_factory=Counter)               # signatures told apart
    texts: dict[str, str] = field(default_factory=dict)                  # of an event of each signature, not scrubbed
    requests: Counter[str] = field(default_factory=Counter)              # by group of paths
    server_errors: Counter[str] = field(default_factory=Counter)
    slow: Counter[str] = field(default_factory=Counter)
    checkout_posts: int = 0
    failed_checkout_posts: int = 0
    timed: bool = False                                                  # the access log says how long requests took

    def add(self, known: Known) -> None:
        """Count one event."""
        name = known.name
        self.events[known.level] += 1
        if name in self.signatures:
            self.signatures[name] += 1
        elif self.kinds[known.level] < MOST_SIGNATURES[known.level]:
            self.kinds[known.level] += 1
            self.signatures[name] = 1
            self.texts[name] = known.text
        else:
            self.signatures[f"{known.level}:(others)"] += 1

    def example(self, name: str) -> str:
        """How an event of this signature read, scrubbed; "" when that is not known. Takes a fraction of a millisecond."""
        return example(self.texts[name]) if name in self.texts else ""

    def counts(self) -> dict[str, int]:
        """All of it by name. What nothing was seen of is a 0; of requests, only where an access log was read."""
        counts = {"lines": self.lines, **{f"events/{level}": self.events[level] for level in LEVELS}}
        counts |= {f"signature/{name}": events for name, events in self.signatures.items()}
        if self.requests:
            counts |= self._requests()
        return counts

    def _requests(self) -> dict[str, int]:
        counts = {"requests": self.requests.total(), "server_errors": self.server_errors.total(),
                  "checkout_posts": self.checkout_posts, "failed_checkout_posts": self.failed_checkout_posts}
        if self.timed:
            counts["slow"] = self.slow.total()
        for group, requests in self.requests.items():
            counts |= {f"requests/{group}": requests, f"server_errors/{group}": self.server_errors[group]}
            if self.timed:
                counts[f"slow/{group}"] = self.slow[group]
        return counts
