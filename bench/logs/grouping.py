"""How well errors are told apart by their signatures, and how fast, beside drain3.

    python bench/logs/grouping.py [--times 10]

The labelled corpus of tests/data/log_signatures, each format a log of its own. GA: the share of events whose group has exactly the events of
their fault. drain3 gets each event whole, its first line, and its message as our readers take it out; plain and with masks for numbers, hashes,
addresses, paths and quoted values; and with several thresholds: the best of all counts. The further tables are longer logs:
every event `--times` times, each time with other numbers.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "error_log"))

from corpus_events import Labelled, corpus, grouping_accuracy, held_out, pairwise_f1
from corpus_parsed import Names, parsed, preset
from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

from probes.error_log.scan import Scanner

HEAD = ("| | GA | GA, seen faults | GA, held out | F1 of pairs | groups | µs per event | without taking the message out |\n"
        "|---|---|---|---|---|---|---|---|")
MASKS = (
    (r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}", "UUID"),
    (r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?|\[\d\d-\w{3}-\d{4} \d\d:\d\d:\d\d[^\]]*\]", "TIME"),
    (r"[\w.+-]+@[\w-]+\.[\w.-]+", "MAIL"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "IP"),
    (r"\w+://[^\s\"']+", "URL"),
    (r"(?<![\w.])(?:/[\w.@%+~=,-]+){2,}", "PATH"),
    (r"(?<![A-Za-z0-9])(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{6,}(?![A-Za-z0-9])", "HEX"),
    (r"(?<![A-Za-z0-9])[-+]?\d+(?:[.,]\d+)*", "NUM"),
)
QUOTED = ((r"'[^'\n]*'|\"[^\"\n]*\"", "STR"),)


def miner(threshold: float, masks: Sequence[tuple[str, str]]) -> TemplateMiner:
    config = TemplateMinerConfig()
    config.drain_sim_th = threshold
    config.masking_instructions = [MaskingInstruction(pattern, name) for pattern, name in masks]
    return TemplateMiner(config=config)


class Drain:
    """One tree for each format."""

    def __init__(self, name: str, text: Callable[[Labelled], str], threshold: float = 0.4, masks: Sequence[tuple[str, str]] = ()) -> None:
        self.name, self.text, self.threshold, self.masks = f"drain3, {name}", text, threshold, masks

    def groups(self, events: Sequence[Labelled]) -> tuple[list[str], float, float]:
        """The groups, and how many seconds it took: with making its text out of an event, and without."""
        miners = {name: miner(self.threshold, self.masks) for name in {event.format for event in events}}
        begun = time.perf_counter()
        texts = [(event.format, self.text(event)) for event in events]
        ready = time.perf_counter()
        found = [(name, miners[name].add_log_message(text)["cluster_id"]) for name, text in texts]
        end = time.perf_counter()
        return [f"{name}/{cluster}" for name, cluster in found], end - begun, end - ready


class Ours:
    """The scanner itself: it finds, reads and names what it has not seen before, and knows again the rest."""

    name = "signatures"

    def groups(self, events: Sequence[Labelled]) -> tuple[list[str], float, float]:
        """The groups, and how many seconds it took, reading included."""
        scanners = {name: Scanner(preset(event)) for name, event in {event.format: event for event in events}.items()}
        tally = Names()
        for scanner in scanners.values():
            scanner.tally = tally
        texts = [(event.format, event.text.encode()) for event in events]
        begun = time.perf_counter()
        for name, text in texts:
            scanners[name].entry(text, "error")
        spent = time.perf_counter() - begun
        return [f"{event.format}/{name}" for event, name in zip(events, tally.names, strict=True)], spent, spent


def whole(event: Labelled) -> str:
    return " ".join(event.text.split("\n"))


def first_line(event: Labelled) -> str:
    return event.text.split("\n", 1)[0]


def message(event: Labelled) -> str:
    """What our signature is made of: message, exception and the top of the stack."""
    read = parsed(event)
    if read is None:
        return first_line(event)
    top = f" in {read.frames[0].path} {read.frames[0].function}" if read.frames else ""
    return f"{read.exception} {read.message}{top}".replace("\n", " ")


def contestants() -> list[Drain]:
    found = [Drain("defaults, whole event", whole), Drain("defaults, first line", first_line), Drain("defaults, our message", message)]
    for threshold in (0.4, 0.6, 0.8, 0.9):
        for text in (whole, first_line, message):
            for masks, said in ((MASKS, "masks"), (MASKS + QUOTED, "masks, quoted too")):
                found.append(Drain(f"{said}, {text.__name__}, {threshold}", text, threshold, masks))
    return found


def again(event: Labelled, turn: int, *, hashes: bool = True) -> Labelled:
    """The same fault with other digits, and with other hex letters in words that have digits. Levels of JSON and names of releases stay."""
    r = random.Random(f"{turn}/{event.text}")

    def other(found: re.Match[str]) -> str:
        word = found[0]
        letters = "abcdef" if hashes and len(word) > 3 else ""
        return "".join(r.choice("123456789") if c.isdigit() else r.choice(letters) if c in letters else c for c in word)

    pattern = r"(?<!releases/)(?<!\"level\":)(?<![g-zG-Z0-9a-f])[0-9a-f]*\d[0-9a-f]*(?![g-zG-Z])"
    return Labelled(event.format, event.label, re.sub(pattern, other, event.text))


def row(contestant: Drain | Ours, events: Sequence[Labelled]) -> tuple[str, float]:
    """A line of a table, and its GA."""
    groups, *seconds = contestant.groups(events)
    labels = [event.label for event in events]
    parts = [[number for number, label in enumerate(labels) if held_out(label) is held] for held in (False, True)]
    accuracy = [grouping_accuracy(labels, groups), *(grouping_accuracy([labels[n] for n in part], [groups[n] for n in part]) for part in parts)]
    cells = [*(f"{share:.3f}" for share in (*accuracy, pairwise_f1(labels, groups))), str(len(set(groups))),
             *(f"{spent / len(events) * 1e6:.1f}" for spent in seconds)]
    return " | ".join(["", contestant.name, *cells, ""]).strip(), accuracy[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=10)
    arguments = parser.parse_args()
    events = corpus()
    random.Random(1).shuffle(events)
    print(f"{len(events)} events of {len({event.label for event in events})} faults\n")
    print(HEAD)
    print(row(Ours(), events)[0])
    rows = [(row(contestant, events), contestant) for contestant in contestants()]
    best = sorted(rows[3:], key=lambda one: -one[0][1])
    for (text, _), _ in best[:5] + rows[:3]:
        print(text)
    for said, hashes in (("other numbers and hashes", True), ("other numbers", False)):
        longer = [again(event, turn, hashes=hashes) for turn in range(arguments.times) for event in events]
        random.Random(2).shuffle(longer)
        print(f"\n{len(longer)} events, each time with {said}:\n\n{HEAD}")
        for contestant in (Ours(), best[0][1], rows[0][1], rows[1][1]):
            print(row(contestant, longer)[0], flush=True)


if __name__ == "__main__":
    main()
