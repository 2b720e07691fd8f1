"""Which files the user's patterns stand for, and what could not be looked into."""

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from probes.error_log.archives import is_packed

NO_FILE = "no file matches"
ARCHIVE = "an archive: only what was rotated into one is read there"
_MOST = 10_000                  # files, and folders that are looked through
_MAGIC = re.compile(r"[*?\[]")


@dataclass(slots=True)
class Found:
    """What a look through the patterns gave."""

    paths: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)      # path or pattern → why
    scanned: set[str] = field(default_factory=set)              # patterns of which at least the folder could be read
    folders: int = 0


def words(error: OSError) -> str:
    """What an error of the operating system means: "permission denied"."""
    return (os.strerror(error.errno).lower() if error.errno else str(error)) or type(error).__name__


def find(patterns: Sequence[str]) -> Found:
    """All paths that the patterns stand for, whatever is there; archives are left out. Plain paths need not exist."""
    found = Found()
    paths: dict[str, None] = {}
    for pattern in patterns:
        before = len(found.problems)
        if not _MAGIC.search(pattern):
            paths[pattern] = None
            if _reachable(pattern, found):
                found.scanned.add(pattern)
            continue
        parts = pattern.split("/")
        fixed = next(place for place, part in enumerate(parts) if _MAGIC.search(part))
        matches = [path for path in _expand("/".join(parts[:fixed]), parts[fixed:], found) if not is_packed(path)]
        paths.update(dict.fromkeys(matches))
        if matches or len(found.problems) == before:
            found.scanned.add(pattern)
        if not matches and len(found.problems) == before:
            found.problems[pattern] = NO_FILE
        if len(paths) > _MOST:
            found.problems[pattern] = f"stands for more than {_MOST} files; only so many are followed"
    found.paths = sorted(paths)[:_MOST]
    return found


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns stands for a path; the disk is not looked at."""
    parts = path.split("/")
    return any(path == pattern or _fits(parts, pattern.split("/")) for pattern in patterns)


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not path:
        return not path and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _fits(path, pattern[1:]) or (not path[0].startswith(".") and _fits(path[1:], pattern))
    return _name_fits(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


def _name_fits(name: str, part: str) -> bool:
    if not _MAGIC.search(part):
        return name == part
    return fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))


def _reachable(path: str, found: Found) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - strings all the way: a thousand of them in a few ms
    except FileNotFoundError:
        return True
    except OSError as error:
        found.problems[path] = words(error)
        return False
    return True


def _expand(folder: str, parts: Sequence[str], found: Found) -> Iterator[str]:
    """Paths below a folder that fit the parts of a pattern."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _below(folder, parts, found)
    elif not _MAGIC.search(part):
        path = f"{folder}/{part}"
        if rest:
            yield from _expand(path, rest, found)
        elif os.path.lexists(path):
            yield path
    else:
        for entry in _entries(folder, found):
            if _name_fits(entry.name, part):
                if not rest:
                    yield entry.path
                elif _is_folder(entry, found):
                    yield from _expand(entry.path, rest, found)


def _below(folder: str, parts: Sequence[str], found: Found) -> Iterator[str]:
    """The same for "**" and what comes after it. It does not follow links to folders: it could run in circles."""
    rest = parts[1:]
    if rest:
        yield from _expand(folder, rest, found)
    for entry in _entries(folder, found):
        if not entry.name.startswith("."):
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, parts, found)
            elif not rest:
                yield entry.path


def _entries(folder: str, found: Found) -> list[os.DirEntry[str]]:
    found.folders += 1
    if found.folders > _MOST:
        found.problems[folder] = f"more than {_MOST} folders to look through"
        return []
    try:
        with os.scandir(folder or "/") as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        found.problems[folder] = words(error)
        return []


def _is_folder(entry: os.DirEntry[str], found: Found) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        found.problems[entry.path] = words(error)
        return False
