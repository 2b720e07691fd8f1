"""Going through a log piece by piece: the same counts wherever it is cut, with and without Hyperscan, and never much time or memory."""

import random
import time
from collections.abc import Sequence

import pytest
from cpu import least
from hypothesis import example, given, settings
from hypothesis import strategies as st
from log_samples import SAMPLES
from test_formats import events
from trace_corpus import KINDS, MAKERS, made

from probes.error_log import engine
from probes.error_log.engine import compiled, finder, lines
from probes.error_log.formats import FORMATS
from probes.error_log.scan import MOST_CACHED, Scanner
from probes.error_log.scan_events import LONGEST_EVENT, MOST_LINES
from probes.error_log.tally import Tally

PLAIN = "2026-11-27 18:00:00,803 "
TEXTS = [(sample.format, sample.text) for sample in SAMPLES] + [
    (log.format, log.text) for log in (made(language, kind, 6) for language in MAKERS for kind in KINDS)]


def whole(format_: str, text: str, **options: object) -> Tally:
    scanner = Scanner(format_, **options)                      # type: ignore[arg-type]
    scanner.read(text.encode(), True)
    return scanner.tally


def in_pieces(format_: str, data: bytes, sizes: Sequence[int], **options: object) -> Tally:
    """As the tail hands a file over: whole lines, what was not taken comes again with more behind it, and the end is final."""
    scanner, begin, end, turn = Scanner(format_, **options), 0, 0, 0          # type: ignore[arg-type]
    while begin < len(data):
        end = min(len(data), end + sizes[turn % len(sizes)])
        turn += 1
        cut = data.rfind(b"\n", begin, end) + 1 if end < len(data) else len(data)
        if cut <= begin:
            continue
        taken = scanner.read(data[begin:cut], end == len(data))
        assert 0 <= taken <= cut - begin
        assert taken == cut - begin or data[begin + taken - 1:begin + taken] in {b"\n", b""} or taken == 0
        begin += taken
    return scanner.tally


def same(one: Tally, other: Tally) -> None:
    assert one.counts() == other.counts()


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "re2"])
@given(which=st.sampled_from(TEXTS), sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=30))
@example(which=TEXTS[0], sizes=[1])
@settings(max_examples=150, deadline=None)
def test_wherever_a_log_is_cut_the_counts_are_the_same(fast: bool, which: tuple[str, str], sizes: list[int]) -> None:
    format_, text = which
    same(in_pieces(format_, text.encode(), sizes, fast=fast), whole(format_, text, fast=fast))


def test_an_event_that_may_go_on_is_left_for_the_next_piece() -> None:
    first = (PLAIN + "INFO shop up\n").encode()
    event = (PLAIN + 'ERROR shop x\nTraceback (most recent call last):\n  File "/srv/shop/a.py", line 3, in f\n').encode()
    scanner = Scanner("python")
    assert scanner.read(first + event, False) == len(first)
    assert scanner.tally.counts() == {"lines": 1, "events/critical": 0, "events/error": 0, "events/warning": 0}
    assert scanner.read(event, False) == 0
    rest = b"KeyError: 'sku'\n"
    assert scanner.read(event + rest, True) == len(event + rest)
    assert dict(scanner.tally.signatures) == {"error:KeyError: 'sku' in a.py f [a]": 1}
    assert scanner.tally.lines == 5


def test_lines_of_formats_without_traces_are_taken_at_once() -> None:
    scanner = Scanner("json")
    data = b'{"level":"error","msg":"x"}\n'
    assert scanner.read(data, False) == len(data)
    assert scanner.tally.events.total() == 1


def test_a_run_that_was_discarded_counts_the_same_again() -> None:
    data = made("python", "interleaved", 30).text.encode()
    scanner = Scanner("python")
    scanner.read(data, True)
    first, scanner.tally = scanner.tally, Tally()
    scanner.read(data, True)
    same(first, scanner.tally)
    assert {name: first.example(name) for name in first.signatures} == {name: scanner.tally.example(name) for name in first.signatures}


def test_a_trace_of_any_length_is_one_event() -> None:
    frames = '  File "/srv/shop/a.py", line 3, in error\n    raise error\n' * 3000
    deep = f"{PLAIN}ERROR shop x\nTraceback (most recent call last):\n{frames}KeyError: 1\n"
    assert whole("python", deep + PLAIN + "INFO shop up\n").events.total() == 1
    assert whole("generic", deep + "all is well\n").events.total() == 1
    java = PLAIN + "ERROR shop x\n" + "\tat com.acme.Error.error(Error.java:1)\n" * 20_000
    assert len(java) > 2 * LONGEST_EVENT
    assert whole("java", java + PLAIN + "INFO shop up\n").events.total() == 1


def test_a_long_event_is_not_held_back_for_ever() -> None:
    begin = (PLAIN + "ERROR shop x\n").encode()
    for long in (begin + b"\tat com.acme.A.a(A.java:1)\n" * (MOST_LINES + 1), begin + (b"\tat " + b"y" * 100_000 + b"\n") * 3):
        assert Scanner("java").read(long, False) == len(long)


def test_what_is_kept_of_a_long_event_is_bounded() -> None:
    scanner = Scanner("python")
    text, _, _ = scanner._whole((PLAIN + "ERROR shop x\n" + " y\n" * 10_000).encode(), 0, len(PLAIN) + 12)
    assert text.count(b"\n") == MOST_LINES - 1
    text, _, _ = scanner._whole((PLAIN + "ERROR shop x\n" + (" " + "y" * 10_000 + "\n") * 90).encode(), 0, len(PLAIN) + 12)
    assert len(text) <= LONGEST_EVENT


def test_the_end_of_a_long_python_trace_decides() -> None:
    frames = '  File "/srv/venv/lib/python3.11/site-packages/lib.py", line 3, in f\n    f()\n' * 200
    names = ("KeyError", "ValueError", "KeyError")
    text = "".join(f"{PLAIN}ERROR shop x\nTraceback (most recent call last):\n{frames}{name}: 1\n" for name in names)
    assert sorted(whole("python", text).signatures.values()) == [1, 2]


def test_own_pattern_is_an_error_whatever_the_format_says() -> None:
    text = "".join(f"[27-Nov-2026 18:00:00 UTC] PHP {kind}:  stock sync stalled in /a.php on line 3\n" for kind in ("Notice", "Warning")) + "x\n"
    assert [level for level, _ in events("php", text, pattern="sync stalled", level="error")] == ["error", "error"]
    assert [level for level, _ in events("generic", "sync stalled\nfatal: sync stalled\nERROR y\n", pattern="sync stalled")] == ["error", "critical"]
    assert events("generic", "ERROR x\n", pattern="stalled") == []
    assert [level for level, _ in events("combined", '1.2.3.4 - - [x] "GET / HTTP/1.1" 200 5\n', pattern="GET /")] == ["error"]
    assert [level for level, _ in events("json", '{"level":"info","msg":"stalled"}\n{"level":"info","msg":"x"}\n', pattern="stalled")] == ["error"]


def test_own_start_pattern_holds_events_together() -> None:
    text = "@ 1 sync stalled\nwhy: no\n\nwhere: there\n@ 2 fine\nsync is fine\n@ 3 sync stalled\n"
    assert events("generic", text, pattern="stalled", start_pattern="@ ") == [("error", "error:@ * sync stalled")] * 2
    data = text.encode()
    scanner = Scanner("generic", pattern="stalled", start_pattern="@ ")
    assert scanner.read(data, False) == data.rindex(b"@ 3")
    same(in_pieces("generic", data, [7], pattern="stalled", start_pattern="@ "), whole("generic", text, pattern="stalled", start_pattern="@ "))


@pytest.mark.parametrize("pattern", ["(", "a{2000}", "(?=x)", r"\1", "[z-a]", r"\Ax", r"x\z"])
def test_a_bad_pattern_says_so(pattern: str) -> None:
    for options in ({"pattern": pattern}, {"pattern": "x", "start_pattern": pattern}):
        with pytest.raises(ValueError, match=r"\w"):
            Scanner("generic", **options)                      # type: ignore[arg-type]


PATTERNS = (
    "failed", "(?i)FAILED", "failed.*", ".*failed", r"^\w+ failed$", r"a\s+b", "[^x]+y", r"\berr(or)?\b|fatal", "(?s)a.b", "x*y", "é", r"\d{3}", "a$",
    "a|zz", r"[^\n]z")
PARTS = ("failed", "FAILED", "a", "b", "x", "y", "z", "error", "123", "é", " ", "\n", "\n", "\r\n", "\t", "\x0b", "fatal", "zz")


@pytest.mark.parametrize("pattern", PATTERNS)
@given(words=st.lists(st.sampled_from(PARTS), max_size=40))
@settings(max_examples=60, deadline=None)
def test_both_engines_find_the_same_lines(pattern: str, words: list[str]) -> None:
    data, sure = "".join(words).encode(), compiled(pattern)
    by_line = [line for line in data.split(b"\n") if sure.search(line)]
    for fast in (True, False):
        find = finder(pattern, fast=fast)
        assert [data[begin:end] for begin, end in lines(data, find(data)) if sure.search(data[begin:end])] == by_line


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "re2"])
def test_a_line_is_not_hidden_by_a_match_that_spans_lines(fast: bool) -> None:
    assert [name for _, name in events("generic", "a\nq\nab one\nb\nab two\n", pattern="a[^x]*b", fast=fast)] == ["error:ab one", "error:ab two"]


@pytest.mark.parametrize("format_", FORMATS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_both_engines_count_the_same(format_: str, seed: int) -> None:
    """Lines of all formats in any order, read as this one."""
    r = random.Random(seed)
    pool = [line for _, text in TEXTS for line in text.split("\n")]
    text = "\n".join(r.choice(pool) for _ in range(80)) + "\n"
    same(whole(format_, text, fast=True), whole(format_, text, fast=False))


def test_hyperscan_is_what_is_tested() -> None:
    assert engine.hyperscan is not None


def test_without_hyperscan_it_works_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "hyperscan", None)
    assert events("generic", "ERROR x\n") == [("error", "error:ERROR x")]


@given(st.binary(max_size=3000), st.sampled_from(sorted(FORMATS)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read(data: bytes, format_: str, final: bool) -> None:
    scanner = Scanner(format_)
    taken = scanner.read(data, final)
    assert taken == len(data) if final else 0 <= taken <= len(data)
    scanner.entry(data, "error")
    assert scanner.tally.events["error"] + scanner.tally.events["critical"] >= 1
    assert scanner.tally.lines >= 1


def test_entries_have_the_worse_of_two_levels() -> None:
    scanner = Scanner("generic")
    for floor, text in (("warning", b"all is well"), ("warning", b"fatal: x"), ("critical", b"warning: x"), (None, b"all is well"),
                        (None, b"ERROR x"), ("error", b"all is well")):
        scanner.entry(text, floor)                             # type: ignore[arg-type]
    assert dict(scanner.tally.events) == {"warning": 1, "critical": 2, "error": 2}
    assert scanner.tally.lines == 6
    high = Scanner("generic", level="error")
    high.entry(b"all is well", "warning")
    assert high.tally.events.total() == 0


EVIL = {
    "errors only": b"error\n" * 40_000, "no line end": b"error " * 40_000, "indented": b"ERROR x\n" + b" y\n" * 80_000,
    "frames without an end": b"Traceback (most recent call last):\n" + b'  File "/a", line 1, in f\n' * 9000,
    "frames and others": b"2026-11-27 ERROR x\nTraceback (most recent call last):\n" + b'  File "/a", line 1, in f\n2026-11-27 INFO y\n' * 5000,
    "brackets": b"[" * 240_000 + b" error\n", "colons": b"error:" * 40_000 + b"\n",
    "dots": b"a.a" * 80_000 + b"Error\n\tat " + b"a." * 10_000 + b"(x\n", "slashes": b"fatal at /" + b"a/" * 100_000 + b":1\n",
    "quotes": b'error "' * 30_000 + b"\n", "empty lines": b"ERROR x\n" + b"\n" * 200_000, "blanks": b"ERROR" + b" " * 240_000 + b"\n",
    "levels": b"[error] [27-Nov-2026 18:00:00] PHP Fatal error: " * 5000 + b"\n", "carets": b"/a:1\n" + b"^\n" * 100_000,
    "wrapped": (b'[27-Nov-2026 18:00:00] WARNING: [pool www] child 1 said into stderr: "' + b"y" * 1000 + b'"\n') * 220,
    "Uncaught": b"Uncaught " * 25_000 + b"\n", "requests": b'" 500 ' * 40_000 + b"\n", "posts": b'"POST /checkout ' * 15_000 + b"\n",
    "causes": b"2026-11-27 18:00:00 ERROR x\n" + b"Caused by: a.b.C: d\n\tat a.b.C.d(E.java:1)\n" * 5000,
    "PHP messages": b"[error] PHP message: PHP Notice:  x; " * 5000 + b"\n",
    "dates": b"[2026-11-27T18:00:00] a.ERROR: " * 7000 + b"{" * 100 + b"\n", "digits": b"error " + b"1" * 240_000 + b"\n",
}


@pytest.mark.parametrize("name", EVIL)
def test_hostile_logs_take_linear_time(name: str) -> None:
    """A quarter of a megabyte in each format: what takes more than linear time would take minutes."""
    for format_ in FORMATS:
        for level in ("error", "warning"):
            scanner = Scanner(format_, level=level)            # type: ignore[arg-type]
            begun = time.process_time()
            scanner.read(EVIL[name], True)
            assert time.process_time() - begun < 1, format_


def test_memory_is_bounded() -> None:
    scanner, r = Scanner("generic"), random.Random(1)
    words = ["".join(r.choices("ghijklmnopqrstuvwxyz", k=12)) for _ in range(MOST_CACHED * 2)]
    scanner._looked_at = lambda text, floor: None              # type: ignore[method-assign,assignment]
    scanner.read("".join(f"error {word}\n" for word in words).encode(), True)
    assert len(scanner._known) <= MOST_CACHED
    assert len(scanner._alike) <= MOST_CACHED


def test_an_error_that_is_known_costs_little() -> None:
    """Measured on a machine that is not idle: the fastest of several, with room to spare. bench/logs/scanners.py tells the figure."""
    line = b"2026/11/27 18:00:03 [error] 901#901: *%d connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.%d\n"
    data = b"".join(line % (number, number % 250) for number in range(20_000))
    scanner = Scanner("nginx_error")
    scanner.read(data[:200], True)
    spent = []
    for _ in range(5):
        scanner.tally = Tally()
        begun = time.process_time()
        scanner.read(data, True)
        spent.append((time.process_time() - begun) / 20_000)
        assert scanner.tally.events["error"] == 20_000
    assert min(spent) < 15e-6


@pytest.mark.parametrize("format_", ["generic", "json", "syslog", "python"])
def test_a_crash_loop_of_bare_tracebacks_is_gone_through_in_linear_time(format_: str) -> None:
    trace = b'Traceback (most recent call last):\n  File "/srv/a.py", line 3, in f\n    x()\nKeyError: \'k\'\n'
    text, scanners = trace * 2500, [Scanner(format_) for _ in range(3)]
    anew = iter(scanners)
    assert least(lambda: next(anew).read(text, True)) < 0.5    # it was 4 s when each looked through all that follow
    assert [scanner.tally.events["error"] for scanner in scanners] == [2500] * 3


def test_an_entry_that_an_own_pattern_does_not_match_is_no_error() -> None:
    scanner = Scanner("generic", pattern="^!!")
    scanner.entry(b"something unimportant", "warning")
    scanner.entry(b"!! aborted", "warning")
    assert (scanner.tally.lines, scanner.tally.events["error"]) == (2, 1)
