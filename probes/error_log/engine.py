"""Finding the lines that a pattern matches in a large piece of a log: with Hyperscan where it is installed, else with re2.

Both take time in proportion to the piece, whatever the pattern is, and find the same lines.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import re2

Finder = Callable[[bytes], list[int]]     # places in the lines that match, ascending; a line may have several
_OPTIONS = re2.Options()
_OPTIONS.encoding = re2.Options.Encoding.LATIN1
_OPTIONS.log_errors = False
_OPTIONS.never_nl = True                  # a line is looked at by itself
_OPTIONS.max_mem = 64 << 20
_SPARSE, _SOME = 16, 1000                 # bytes per match below which Hyperscan, which tells each end of a match, is slower; never mind so few
_ENDS = re.compile(r"(?<!\\)(?:\\\\)*\\[AzZ]")


def _imported() -> Any:
    """The library of the extra `fast`; None where it is not installed, or there is no build for the machine."""
    try:
        return importlib.import_module("hyperscan")
    except ImportError:
        return None


hyperscan = _imported()


def compiled(pattern: str) -> "re2._Regexp[bytes]":
    """The pattern for bytes, `^` and `$` at every line. Raises ValueError."""
    if _ENDS.search(pattern):
        raise ValueError(r"\A and \z are the ends of all that is read: ^ and $ are those of a line")
    try:
        return re2.compile(f"(?m){pattern}".encode(), _OPTIONS)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise ValueError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None


def finder(pattern: str, *, fast: bool = True) -> Finder:
    """Finds the lines with this pattern, whose syntax is re2's. Raises ValueError.

    Hyperscan also finds lines that match only together with the next one.
    """
    plain = compiled(pattern)

    def slow(data: bytes) -> list[int]:
        return [found.start() for found in plain.finditer(data)]
    return (_quick(pattern, slow) if fast and hyperscan is not None else None) or slow


def _quick(pattern: str, slow: Finder) -> Finder | None:
    """None where Hyperscan does not know the pattern's syntax. Goes over to `slow` when the pattern matches nearly everywhere."""
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    try:
        database.compile(expressions=[pattern.encode()], ids=[0], elements=1, flags=[hyperscan.HS_FLAG_MULTILINE])
    except hyperscan.error:
        return None
    scratch = hyperscan.Scratch(database)
    dense = False

    def find(data: bytes) -> list[int]:
        nonlocal dense
        if dense:
            return slow(data)
        ends: list[int] = []
        add = ends.append
        most = len(data) // _SPARSE + _SOME

        def matched(_id: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            add(end - 1)
            return len(ends) > most                    # ends the search
        try:
            database.scan(data, match_event_handler=matched, scratch=scratch)
        except hyperscan.error:
            if len(ends) <= most:
                raise
        if len(ends) > most:
            dense = True
            return slow(data)
        return ends
    return find


def lines(data: bytes, places: list[int]) -> Iterator[tuple[int, int]]:
    """From and to of each line that one of `places` lies in, without its line break."""
    end, find, rfind, size = -1, data.find, data.rfind, len(data)
    for place in places:
        if place <= end:
            continue
        begin = rfind(b"\n", 0, place) + 1
        end = find(b"\n", place)
        end = size if end < 0 else end
        yield begin, end
