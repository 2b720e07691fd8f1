"""What a run of a flow found beside its steps: kinds, the name under which each finding is counted, and an example. Pure.

A name is the same in each run, whatever ids, prices, hashes and caches are in what it was made of: the judge compares the names of the
runs before an update with those after it, so what was always there says nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from probes.checkout.addresses import Hosts, host_of, module, place, shown
from probes.error_log.masks import masked
from probes.error_log.signature import LONGEST_EXAMPLE, LONGEST_NAME, example
from probes.scrub import redact, visible

_NAMES = 5                 # times its room: names made of a kind, equal ones too; a page that makes up new ones costs no more than that
_STEPS = 200
_OTHERS = "(others)"       # what was too much to be told apart, as logs call it
_READ = 1000               # characters of a message of which a name is made


Kind = Literal["document", "page_error", "asset", "xhr", "json", "soft_error", "request", "mixed", "console", "third_party_failed", "robots",
               "third_party", "script"]


@dataclass(frozen=True, slots=True)
class About:
    """What belongs to a kind of finding. `level` begins its names; `room` is how many are told apart in a run."""

    words: str
    level: str
    counted: str = ""      # the count that each adds to, beside its own
    room: int = 14
    at: str = "at"         # stands between what was said and where


# Every kind, the most telling first. `fail_on` of a flow takes their names.
KINDS: dict[Kind, About] = {
    "document": About("page", "error:"),
    "page_error": About("page error", "error:", "page_errors", at="in"),
    "asset": About("asset", "error:", "asset_errors"),
    "xhr": About("request", "error:"),
    "json": About("answer", "error:", "json_failures"),
    "soft_error": About("page says", "error:", "soft_errors"),
    "request": About("request", "error:"),
    "mixed": About("mixed content", "warning:"),
    "console": About("console", "warning:", "console_errors", at="in"),
    "third_party_failed": About("third party failed", "warning:", "third_party_failures"),
    "robots": About("noindex", "warning:"),
    "third_party": About("third party", "noted:", room=60),
    "script": About("inline script", "noted:", room=80),
}
MOST = sum(about.room + 1 for about in KINDS.values())       # findings of a run
COUNTS = ("console_errors", "page_errors", "failed_requests", "error_responses", "asset_errors", "json_failures", "soft_errors",
          "third_party_failures", "third_party_hosts", "requests", "bytes")


@dataclass(slots=True)
class Finding:
    """One thing that was found, in the step in which it was seen first."""

    kind: Kind
    name: str                            # "error:page error TypeError: x is not a function in /static/checkout.js [checkout]"
    text: str                            # how it read: scrubbed, at most 400 characters
    step: str
    count: int = 1


@dataclass(slots=True)
class Found:
    """The findings of one run, bounded in number."""

    hosts: Hosts
    secrets: tuple[str, ...] = field(default=(), repr=False)
    by_name: dict[str, Finding] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    steps: dict[str, dict[str, None]] = field(default_factory=dict)       # names of what was found in a step
    _kinds: Counter[str] = field(default_factory=Counter)
    _made: Counter[str] = field(default_factory=Counter)
    _names: dict[tuple[str, str, str], str] = field(default_factory=dict, repr=False)  # what was said, to the name it got

    def add(self, kind: Kind, said: str, *, step: str, url: str = "", text: str = "", fixed: bool = False, light: bool = False) -> None:
        """Count one. `said` is masked unless it is `fixed`; `url` is where; `text` is the example, scrubbed here. `light`: a warning only."""
        known = KINDS[kind]
        if known.counted:
            self.counts[known.counted] += 1
        level = "warning:" if light else known.level
        key = kind, said[:_READ], url[:_READ]
        name = self._names.get(key)
        if name is None:
            name = f"{level}{_OTHERS}"
            if self._made[kind] < _NAMES * known.room:
                self._made[kind] += 1
                name = self._names[key] = self._name(known, level, said, url, fixed=fixed)
        finding = self.by_name.get(name) or self._new(kind, name, text or f"{said} {shown(url, self.secrets) if url else ''}".strip(), step)
        finding.count += 1
        if len(self.steps) < _STEPS or step in self.steps:
            self.steps.setdefault(step, {})[finding.name] = None

    def _new(self, kind: Kind, name: str, text: str, step: str) -> Finding:
        if self._kinds[kind] >= KINDS[kind].room:
            name, text = f"{KINDS[kind].level}{_OTHERS}", ""
        else:
            self._kinds[kind] += 1
        found = self.by_name.setdefault(name, Finding(kind, name, "", step, 0))
        found.text = found.text or self.example(text)
        return found

    def example(self, text: str) -> str:
        """A text as a person may see it: one line, scrubbed, at most 400 characters."""
        return example(redact(text[:4 * LONGEST_EXAMPLE], self.secrets))

    def _name(self, about: About, level: str, said: str, url: str, *, fixed: bool) -> str:
        told = visible(" ".join((said if fixed else masked(redact(said[:_READ], self.secrets, ips=True))).split()))
        lies_in = module(url) if url else ""
        where = f" {about.at} {place(url, self.hosts)}" if host_of(url) else ""
        end = f"{where}{f' [{lies_in}]' if lies_in else ''}"
        return _fitted(f"{level}{about.words}", f" {told}" if told else "", redact(end, self.secrets) if self.secrets else end)

    def told(self, step: str) -> list[Finding]:
        """What was found in a step that may explain why it failed, the most telling first."""
        ranks = list(KINDS)
        found = [self.by_name[name] for name in self.steps.get(step, ()) if not name.endswith(_OTHERS)]
        telling = [one for one in found if one.kind not in ("third_party", "script", "robots")]
        return sorted(telling, key=lambda one: (one.name.startswith("warning:"), ranks.index(one.kind)))


def _fitted(begin: str, said: str, end: str) -> str:
    """The parts within the limit; what had to be cut ends in a hash of the whole, so that different ones stay apart."""
    whole = f"{begin}{said}{end}".strip()
    if len(whole) > LONGEST_NAME:
        hashed = blake2b(whole.encode("utf-8", "replace"), digest_size=4).hexdigest()
        room = LONGEST_NAME - len(begin) - len(hashed) - 1
        end = end[-min(len(end), max(room - 40, 40)):]
        whole = f"{begin}{said[:max(0, room - len(end))]}…{hashed}{end}"[:LONGEST_NAME]
    return whole.encode("utf-8", "backslashreplace").decode()[:LONGEST_NAME]
