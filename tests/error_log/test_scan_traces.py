"""T31: traces of PHP, Python, Java and Node give one event each, also interleaved, cut off and wrapped."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
from corpus_events import Labelled, corpus
from trace_corpus import KINDS, MAKERS, made

from probes.error_log.formats import recognise
from probes.error_log.scan import Scanner
from probes.error_log.tally import Known, Tally

Whole = Callable[[bytes, int, int], tuple[bytes, int, bool]]
EACH = 84                  # traces for each of six writers: 504 for each kind


class Texts(Tally):
    """Keeps the text of each event, not only the first of a signature."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[Known] = []

    def add(self, known: Known) -> None:
        self.added.append(known)
        super().add(known)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "re2"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_trace_is_exactly_one_event(kind: str, fast: bool) -> None:
    right = total = 0
    wrong: list[str] = []
    for language in MAKERS:
        log = made(language, kind, EACH)
        data = log.text.encode()
        scanner = Scanner(log.format, fast=fast)
        found: Counter[int] = Counter()

        def noted(data: bytes, begin: int, stop: int, whole: Whole = scanner._whole, found: Counter[int] = found) -> tuple[bytes, int, bool]:
            found[begin] += 1
            return whole(data, begin, stop)
        scanner._whole = noted                                 # type: ignore[method-assign]
        scanner.read(data, True)
        assert scanner.tally.events.total() == found.total(), language
        right += sum(found[begin] == 1 for begin in log.begins)
        total += len(log.begins)
        wrong += [f"{language}: {found[begin]} x {data[begin:begin + 80]!r}"
                  for begin in {*log.begins, *found} if (found[begin] == 1) != (begin in log.begins)]
    assert total >= 500
    assert right >= 0.99 * total, wrong[:20]
    assert len(wrong) <= 0.01 * total, wrong[:20]


def _by_format() -> dict[str, list[Labelled]]:
    """The real corpus, each format shuffled into one log."""
    formats: dict[str, list[Labelled]] = defaultdict(list)
    for event in corpus():
        formats[recognise(event.text.encode()) if event.format == "gunicorn" else event.format].append(event)
    for events in formats.values():
        random.Random(1).shuffle(events)
    return formats


def _known(scanner: Scanner, event: Labelled) -> list[Known]:
    scanner.tally = tally = Texts()
    scanner.read(event.text.rstrip("\n").encode() + b"\n", True)
    return tally.added


def test_real_programs_errors_are_one_event_each() -> None:
    """Alone and below each other, and what is known again is read as if it were new."""
    right = total = 0
    for events in _by_format().values():
        format_ = recognise("\n".join(event.text for event in events).encode()[:16384])
        fresh, used, together = Scanner(format_), Scanner(format_), Scanner(format_)
        each = Tally()
        for event in events:
            for cache in (fresh._known, fresh._alike, fresh._named):
                cache.clear()
            alone = _known(fresh, event)
            assert [known.name for known in _known(used, event)] == [known.name for known in alone], event.text
            for known in alone:
                each.add(known)
            faults = len(re.findall(r"^\[[^\]]+\] PHP (?:Warning|Fatal)", event.text, re.MULTILINE))
            harmless = "PHP Notice" in event.text or (event.format == "php" and " [checkout] " in event.text)
            right += len(alone) == (0 if harmless else max(faults, 1))
            total += 1
        together.read("".join(event.text.rstrip("\n") + "\n" for event in events).encode(), True)
        assert together.tally.events == each.events, format_
        assert together.tally.signatures == each.signatures, format_
    assert total > 4000
    assert right >= 0.99 * total


def test_another_writers_error_in_the_middle_makes_two_events() -> None:
    text = ("2026-11-27 18:00:00,803 ERROR shop first\nTraceback (most recent call last):\n"
            '  File "/srv/shop/a.py", line 3, in f\n    f()\n'
            "2026-11-27 18:00:01,803 ERROR shop second\n"
            '  File "/srv/shop/b.py", line 3, in g\n    g()\nKeyError: 1\n')
    scanner = Scanner("python")
    scanner.read(text.encode(), True)
    assert scanner.tally.events.total() == 2


TWO = {
    "python": """\
2026-11-27 18:00:00,803 ERROR shop x
Traceback (most recent call last):
  File "/srv/shop/shop/{}.py", line 3, in total
    post()
  File "/srv/venv/lib/python3.11/site-packages/urllib3/pool.py", line 3, in urlopen
    raise
urllib3.Timeout: no answer
""",
    "php": """\
[27-Nov-2026 18:00:00 UTC] PHP Fatal error:  Uncaught GuzzleHttp\\Timeout: no answer in /srv/shop/vendor/guzzlehttp/guzzle/src/Client.php:3
Stack trace:
#0 /srv/shop/vendor/guzzlehttp/guzzle/src/Pool.php(3): GuzzleHttp\\Client->send()
#1 /srv/shop/vendor/guzzlehttp/guzzle/src/Pool.php(9): GuzzleHttp\\Pool->send()
#2 /srv/shop/src/{}.php(9): GuzzleHttp\\Pool->all()
#3 /srv/shop/index.php(9): Shop\\run()
#4 {{main}}
  thrown in /srv/shop/vendor/guzzlehttp/guzzle/src/Client.php on line 3
""",
    "java": """\
2026-11-27 18:00:00.115 ERROR com.acme.Shop - x
com.acme.Failed: y
\tat com.acme.Web.get(Web.java:1)
Caused by: java.io.IOException: no answer
\tat java.base/java.net.Socket.read(Socket.java:1)
\tat com.acme.{}.post(Http.java:1)
\t... 3 more
""",
    "node": """\
TypeError: no answer
    at node:internal/socket:3:4
    at post (/srv/shop/src/{}.js:14:38)
""",
}


@pytest.mark.parametrize("format_", TWO)
def test_the_same_library_called_by_two_parts_of_the_shop_is_two_faults(format_: str) -> None:
    """Only the frames of the library are the same; so is what is left of them for knowing them again."""
    text, scanner = TWO[format_], Scanner(format_)
    scanner.read("".join(text.format(part) for part in ("Cart", "Stock", "Cart", "Stock")).encode(), True)
    assert sorted(scanner.tally.signatures.values()) == [2, 2], scanner.tally.signatures


@pytest.mark.parametrize("format_", TWO)
def test_one_fault_reached_on_two_ways_is_read_once(format_: str) -> None:
    """What called the shop's own frame does not count."""
    text, scanner = TWO[format_].format("Cart"), Scanner(format_)
    outer = {
        "python": ("last):\n", 'last):\n  File "/srv/shop/way{}.py", line 3, in way\n    go()\n'),
        "php": ("#3 /srv/shop/index", "#3 /srv/shop/way{}"),
        "java": ("\t... 3 more\n", "\tat com.acme.Way{}.go(Way.java:3)\n\t... 3 more\n"),
        "node": ("14:38)\n", "14:38)\n    at way{} (/srv/shop/way.js:1:1)\n")}
    old, new = outer[format_]
    scanner.read("".join(text.replace(old, new.format(way)) for way in ("A", "B", "C")).encode(), True)
    assert list(scanner.tally.signatures.values()) == [3]


def test_a_trace_below_a_harmless_line_is_not_taken_by_the_error_above() -> None:
    for between in ("", "2026-11-27 18:00:00.115 INFO com.acme.Shop - up\n"):
        text = ("2026-11-27 18:00:00.115 ERROR com.acme.Shop - first\njava.io.IOException: one\n\tat com.acme.A.a(A.java:1)\n" + between
                + "2026-11-27 18:00:00.115 WARN com.acme.Shop - java.lang.IllegalStateException: two\n\tat com.acme.B.b(B.java:1)\n"
                "Caused by: java.lang.IllegalStateException: three\n\tat com.acme.B.b(B.java:1)\n")
        scanner = Scanner("java", level="error")
        scanner.read(text.encode(), True)
        assert list(scanner.tally.signatures) == ["error:IOException: one in A.a [com.acme]"]
