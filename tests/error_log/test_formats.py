"""Every format: it is recognised, its levels are read, what is no error is none, and what took several lines is one event."""

import pytest
from log_samples import SAMPLES, Sample

from probes.error_log.event import LEVELS, Level
from probes.error_log.formats import FORMATS, recognise
from probes.error_log.scan import Scanner


def events(format_: str, text: str | bytes, **options: object) -> list[tuple[str, str]]:
    """(level, signature) of each event, in the order in which they stand there."""
    scanner = Scanner(format_, **options)                      # type: ignore[arg-type]
    found: list[tuple[str, str]] = []
    add = scanner.tally.add

    class Ordered(type(scanner.tally)):                        # type: ignore[misc]
        def add(self, known) -> None:                          # type: ignore[no-untyped-def]
            found.append((known.level, known.name))
            add(known)
    scanner.tally = Ordered()
    data = text if isinstance(text, bytes) else text.encode()
    assert scanner.read(data, True) == len(data)
    return found


IDS = [f"{sample.format}: {sample.name}" for sample in SAMPLES]


def test_every_format_has_a_sample() -> None:
    assert {sample.format for sample in SAMPLES} | {"json"} == set(FORMATS)       # JSON has tests of its own


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample.format != "generic"], ids=lambda sample: f"{sample.format}: {sample.name}")
def test_it_is_recognised(sample: Sample) -> None:
    assert recognise(sample.text.encode()) == sample.format


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "re2"])
@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_levels_and_messages(sample: Sample, fast: bool) -> None:
    found = events(sample.format, sample.text, fast=fast)
    assert [level for level, _ in found] == [level for level, _ in sample.events], found
    for (level, name), (_, part) in zip(found, sample.events, strict=True):
        assert name.startswith(f"{level}:")
        assert part in name


@pytest.mark.parametrize("least", LEVELS)
@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_only_the_wanted_levels(sample: Sample, least: Level) -> None:
    wanted = [level for level, _ in sample.events if LEVELS.index(level) <= LEVELS.index(least)]
    assert [level for level, _ in events(sample.format, sample.text, level=least)] == wanted


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_windows_line_ends_change_nothing(sample: Sample) -> None:
    assert events(sample.format, sample.text.replace("\n", "\r\n")) == events(sample.format, sample.text)


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_a_last_line_without_an_end_counts(sample: Sample) -> None:
    assert events(sample.format, sample.text.rstrip("\n")) == events(sample.format, sample.text)


def test_what_nobody_knows_is_generic() -> None:
    assert recognise(b"") == recognise(b"\n\n") == recognise(b"hello\nworld\n") == recognise(bytes(range(256)) * 20) == "generic"


def test_a_file_is_recognised_by_most_of_its_lines() -> None:
    line = '192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 200 512\n'
    assert recognise(("nonsense\n" + line * 5).encode()) == "combined"
    assert recognise(("nonsense\n" * 5 + line).encode()) == "generic"


def test_a_trace_does_not_hide_the_format_above_it() -> None:
    text = "[27-Nov-2026 18:00:02 UTC] PHP Fatal error:  Uncaught Error: x in /srv/shop/a.php:8\nStack trace:\n" + "#0 /srv/shop/b.php(3): f()\n" * 40
    assert recognise(text.encode()) == "php"


def test_a_byte_order_mark_does_not_hide_the_format() -> None:
    assert recognise(b'\xef\xbb\xbf{"level":"info","msg":"x"}\n') == "json"


def test_digits_that_decide_are_not_taken_for_the_same() -> None:
    assert events("generic", "import: failed: 0\nimport: failed: 5\nimport: failed: 0\n") == [("error", "error:import: failed: *")]
    assert [level for level, _ in events("generic", "failed=0\nfailed=3\nfailed=0\nfailed: 10\n")] == ["error", "error"]
    request = '[27/Nov/2026 18:00:00] "GET /checkout/ HTTP/1.1" {} 145\n'
    statuses = events("python", "".join(request.format(status) for status in (500, 503, 500)), level="error")
    assert [name.rpartition(": ")[2].partition(" [")[0] for _, name in statuses] == [
        "Internal Server Error", "Service Unavailable", "Internal Server Error"]
    lines = "".join(f"<{priority}>Nov 27 18:00:01 web1 shop: said\n" for priority in (11, 14, 12, 10, 14))
    assert [level for level, _ in events("syslog", lines)] == ["error", "warning", "critical"]


def test_every_priority_of_syslog_has_its_level() -> None:
    levels = ["critical", "critical", "critical", "error", "warning", None, None, None]
    for priority in range(192):
        expected = levels[priority % 8]
        found = events("syslog", f"<{priority}>Nov 27 18:00:01 web1 shop: said\n", level=expected or "warning")
        assert [level for level, _ in found] == ([expected] if expected else [])
