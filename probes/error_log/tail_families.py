"""The generations of each path, and which of them stands there now."""

from collections.abc import Callable, Iterable, Mapping

from probes.error_log.positions import Position
from probes.error_log.tail_slices import Reader
from probes.error_log.tail_source import Look

_REMEMBERED = 2         # generations of a path that were read to their end, and are known again when they are found


class Generation:
    """One generation that is not yet read to its end, within one read."""

    __slots__ = ("after", "begun", "end", "forced", "home", "limit", "look", "outrun", "position", "reader")

    def __init__(self, position: Position, home: str = "", look: Look | None = None) -> None:
        self.position = position
        self.begun = bool(home)                 # it was not known before this read
        self.home = home                        # the path where it can be opened; "" as long as nobody knows
        self.look = look                        # the file before it was read,
        self.after: Look | None = None          # and afterwards
        self.limit: int | None = None           # how far it may be read, see `Family`
        self.reader: Reader | None = None
        self.end = False                        # nothing more to do in this read
        self.outrun = False                     # it was truncated, but all that was copied away before had been read
        self.forced = False                     # its unended line was handed out too


class Family:
    """The generations that were written under one path, the oldest first.

    What stands at the path now is read only as far as it went before the older ones were read to their ends: what was
    written to them in the meantime is older too.
    """

    __slots__ = ("absent", "done", "fresh", "generations", "look", "path", "quiet", "superseded")

    def __init__(self, path: str) -> None:
        self.path = path
        self.generations: list[Generation] = []
        self.done: list[Position] = []
        self.look: Look | None = None           # what stands at the path
        self.fresh = False                      # a generation has begun since the last read, and others may have been missed
        self.superseded = False                 # at the path stands what belongs to another family
        self.absent = False                     # nothing stands at the path
        self.quiet = False                      # nothing has changed: nothing to do

    @property
    def newest(self) -> Generation:
        """The last generation; mostly the one that stands at the path."""
        return self.generations[-1]

    def add(self, position: Position) -> None:
        """Take in a position that was remembered."""
        if position.done or position.copy:
            self.done.append(position)
        else:
            self.generations.append(Generation(position))

    def remove(self, position: Position) -> None:
        """Let go of a position."""
        self.done = [one for one in self.done if one is not position]
        self.generations = [one for one in self.generations if one.position is not position]

    def forget(self, identity: tuple[int, int]) -> None:
        """What had this identity is not there any more: another file has got it."""
        self.done = [one._replace(device=0, inode=0) if one.identity == identity else one
                     for one in self.done if not one.copy or one.identity != identity]
        for one in self.generations:
            if one.position.identity == identity:
                one.position, one.home = one.position._replace(device=0, inode=0), ""

    def finish(self, generation: Generation) -> None:
        """It was read to its end, or is lost."""
        self.generations.remove(generation)
        self.done.append(generation.position._replace(done=True, since=0.0, quiet=0.0, inside=False))

    def ended(self, generation: Generation) -> bool:
        """Whether whoever wrote to it writes elsewhere by now."""
        after = self.generations[self.generations.index(generation) + 1 :]
        return any(newer.position.offset or (newer.look and newer.look.size) for newer in after) or (
            self.superseded and bool(self.look and self.look.size))

    def positions(self) -> list[Position]:
        """What is to be remembered."""
        copies = [one for one in self.done if one.copy]
        done = [one for one in self.done if not one.copy]
        return copies + done[-_REMEMBERED:] + [one.position for one in self.generations]

    def all(self) -> list[Position]:
        """Every position, also of what was read to its end."""
        return [*self.done, *(one.position for one in self.generations)]

    def last_written(self) -> int:
        """When any generation that was known was last written to, Unix ns: who was written to later, and is not known, was missed."""
        return max((one.seen for one in [*self.done, *(one.position for one in self.generations if not one.begun)]), default=0)


def group(positions: Iterable[Position]) -> dict[str, Family]:
    """The families of these positions."""
    families: dict[str, Family] = {}
    for position in positions:
        family = families.get(position.path)
        if family is None:
            family = families[position.path] = Family(position.path)
        family.add(position)
    return families


def recognise(
    families: dict[str, Family], looks: Mapping[str, Look | str], known: Callable[[Position, str, Look], bool],
) -> dict[tuple[int, int], Position]:
    """Find out which files stand where, and give who is known under which identity.

    A file that was read to its end and now stands at a path that is followed is followed there: a log that was rotated to a
    name that matches too, or a link that was turned back. An identity alone proves nothing, for systems give it out again:
    `known` says whether the content at a path is that of a position.
    """
    owner = {one.identity: one for family in families.values() for one in family.all() if one.inode}
    for path, look in looks.items():
        one = None if isinstance(look, str) else owner.get(look.identity)
        if one is None or isinstance(look, str):
            continue
        family = families.get(path)
        if family and family.generations and family.newest.position is one:
            continue
        at_home = looks.get(one.path)
        if one.path != path and not one.done and not isinstance(at_home, str | None) and at_home.identity == one.identity:
            continue                            # another name of a file that is followed
        if not known(one, path, look):
            del owner[one.identity]
            families[one.path].forget(one.identity)
        elif one.path != path if one.copy else (one.done or one.path == path):
            owner[look.identity] = _settled(families, one, path)
    return owner


def _settled(families: dict[str, Family], one: Position, path: str) -> Position:
    """The position as the newest generation of the path at which its file was found."""
    families[one.path].remove(one)
    new = one._replace(path=path, done=False, quiet=0.0)
    families.setdefault(path, Family(path)).add(new)
    return new
