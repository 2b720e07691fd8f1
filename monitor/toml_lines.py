"""The line on which a key path of a TOML text stands: no TOML library tells it."""

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]

_SKIP = re.compile(r"[ \t\r\n]*(?:#[^\n]*)?")
_HEADER = re.compile(r"(\[\[?)\s*([^\]\n]+?)\s*\]\]?")
_KEY = re.compile(r"""\s*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))\s*(\.)?""")
_TOKEN = re.compile(r'''"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|\n''', re.DOTALL)


def find(text: str) -> dict[Path, int]:
    """Key path -> line, of a text that tomli has accepted. Keys inside an inline table stand on their table's line."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    prefix: Path = ()
    position = 0
    while (position := _skip(text, position)) < len(text):
        line = text.count("\n", 0, position) + 1
        header = _HEADER.match(text, position) if text[position] == "[" else None
        if header:
            prefix = _resolve(_keys(header[2], 0)[0], counts, several=header[1] == "[[")
            lines.setdefault(prefix, line)
            position = header.end()
            continue
        path, position = _keys(text, position)
        lines[(*prefix, *path)] = line
        position = _end_of_value(text, position)
    return lines


def line(lines: Mapping[Path, int], path: Path) -> int:
    """The line of the path, or of its nearest parent that is written down; 0 when there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _skip(text: str, position: int) -> int:
    while (match := _SKIP.match(text, position)) and match.end() > position:
        position = match.end()
    return position


def _keys(text: str, position: int) -> tuple[Path, int]:
    """A dotted key, and where it ends."""
    path: list[str] = []
    while match := _KEY.match(text, position):
        path.append(next(group for group in match.groups()[:3] if group is not None))
        position = match.end()
        if not match[4]:
            break
    return tuple(path), position


def _resolve(path: Path, counts: dict[Path, int], *, several: bool) -> Path:
    """A header's path with the numbers of the arrays of tables that it lies in."""
    out: Path = ()
    for depth, key in enumerate(path):
        out = (*out, key)
        if several and depth == len(path) - 1:
            counts[out] = counts.get(out, -1) + 1
        if out in counts:
            out = (*out, counts[out])
    return out


def _end_of_value(text: str, position: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, position):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            return token.end()
    return len(text)
