"""The labelled corpus of tests/data/log_signatures, and how well groups agree with its labels."""

import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[1] / "data" / "log_signatures" / "corpus.jsonl.gz"


@dataclass(frozen=True)
class Labelled:
    """One event as it stood in a log of this format, and which fault it came from."""

    format: str
    label: str
    text: str


def corpus() -> list[Labelled]:
    with gzip.open(CORPUS, "rt") as lines:
        return [Labelled(**json.loads(line)) for line in lines]


def held_out(label: str) -> bool:
    """The third of the faults that nobody looked at while the masks were made."""
    return zlib.crc32(label.encode()) % 3 == 0


def grouping_accuracy(labels: Sequence[str], groups: Sequence[str]) -> float:
    """The share of events whose group has exactly the events of their label (GA, as in the literature on log parsing)."""
    right = set(_members(labels))
    return sum(len(members) for members in _members(groups) if members in right) / len(labels)


def pairwise_f1(labels: Sequence[str], groups: Sequence[str]) -> float:
    """F1 of "these two events belong together" over all pairs."""
    both = _pairs(Counter(zip(labels, groups, strict=True)).values())
    return 2 * both / (_pairs(Counter(labels).values()) + _pairs(Counter(groups).values()))


def _members(names: Sequence[str]) -> list[tuple[int, ...]]:
    found: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        found[name].append(number)
    return [tuple(members) for members in found.values()]


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes)
