"""The line on which a key path of a TOML text stands: no TOML library tells it."""

import re
from bisect import bisect_left
from collections.abc import Mapping

import tomli

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
_SCALAR = re.compile(       # a string in several lines may end with up to two quotes of its own
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:'{0,2})|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^,\]}#\n]+''', re.DOTALL)


def find(text: str) -> dict[Path, int]:
    """Key path -> line, of a text that tomli has accepted: of every table, key and array item."""
    scan = _Scan(text)
    prefix: Path = ()
    while char := scan.next():
        if char == "[":
            prefix = scan.header()
        else:
            scan.pair(prefix)
    return scan.lines


def line(lines: Mapping[Path, int], path: Path) -> int:
    """The line of the path, or of its nearest parent that is written down; 0 when there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


class _Scan:
    """Walks once over a text that is known to be valid, and notes where things stand."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._counts: dict[Path, int] = {}

    def next(self) -> str:
        """Over blanks and comments to the next character; "" at the end."""
        self._pass(_BLANK)
        return self.text[self.at : self.at + 1]

    def header(self) -> Path:
        """[a.b] or [[a.b]]: the path of the table that begins here."""
        line, several = self._line(), self.text.startswith("[[", self.at)
        self.at += 2 if several else 1
        path = self._resolve(self._keys(), several=several)
        self.at += 2 if several else 1
        self._note(path, line)
        return path

    def pair(self, prefix: Path) -> None:
        """key = value, and what lies inside the value."""
        line = self._line()
        path = (*prefix, *self._keys())
        self._note(path, line)
        self.at += 1
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self.next()
        if opening not in {"[", "{"}:
            self._pass(_SCALAR)
            return
        self.at += 1
        index = 0
        while (char := self.next()) not in {"]", "}"}:
            if char == ",":
                self.at += 1
            elif opening == "{":
                self.pair(path)
            else:
                self._note((*path, index), self._line())
                self._value((*path, index))
                index += 1
        self.at += 1

    def _keys(self) -> Path:
        """A dotted key."""
        path: list[str] = []
        while match := _KEY.match(self.text, self.at):
            path.append(_plain(match[1]))
            self.at = match.end()
            if not self.text.startswith(".", self.at):
                break
            self.at += 1
        return tuple(path)

    def _resolve(self, path: Path, *, several: bool) -> Path:
        """A header's path with the numbers of the arrays of tables that it lies in."""
        out: Path = ()
        for depth, key in enumerate(path):
            out = (*out, key)
            if several and depth == len(path) - 1:
                self._counts[out] = self._counts.get(out, -1) + 1
            if out in self._counts:
                out = (*out, self._counts[out])
        return out

    def _note(self, path: Path, line: int) -> None:
        """The path stands on this line; tables that it only implies begin there, too."""
        self.lines[path] = line
        for depth in range(1, len(path)):
            self.lines.setdefault(path[:depth], line)

    def _line(self) -> int:
        return bisect_left(self._breaks, self.at) + 1

    def _pass(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()


def _plain(key: str) -> str:
    """A key without its quotes and escapes."""
    return str(tomli.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key
