"""The releases of the bundled shop: what each one changes, and which one runs now."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger("kettle.releases")


@dataclass(frozen=True, slots=True)
class Release:
    """One release. `theme` names a folder under templates; `assets` stands in the addresses of its static files."""

    version: str
    theme: str
    assets: str
    recommends: bool = False
    query_per_product: bool = False     # the N+1 fault: the catalogue asks for the stock of each product by itself
    new_gateway: bool = False           # payments go through payment_gateway.py, which fails for a share of them


RELEASES = {release.version: release for release in (
    Release("1.0", theme="classic", assets="100-5d1c07"),
    Release("1.1", theme="fresh", assets="110-b82e94", recommends=True),
    Release("2.0", theme="fresh", assets="200-e07f3a", recommends=True, query_per_product=True, new_gateway=True),
)}
FIRST = "1.0"


def deploy(folder: Path, version: str) -> str:
    """Puts a release live, also in a running shop, from its next request on; gives the version that was live before."""
    before = Deployed(folder).current().version
    new = folder / f"release.{os.getpid()}"
    new.write_text(f"{version}\n")
    new.replace(folder / "release")
    return before


class Deployed:
    """The release that `folder`/release names. Looking costs one stat, so that every request may look."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "release"
        self._stamp: tuple[int, int, int] | None = None
        self._release = RELEASES[FIRST]

    def current(self) -> Release:
        """The release to serve; the last good one while the file is missing or names none that we have."""
        try:
            stat = self._path.stat()
            # Size and inode too: two writes within one tick of the file system's clock leave the same mtime.
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp != self._stamp:
                self._release = self._read()
                self._stamp = stamp
        except FileNotFoundError:
            pass
        return self._release

    def _read(self) -> Release:
        version = self._path.read_text().strip()
        if version not in RELEASES:
            LOG.warning("unknown release %.20r, staying with %s", version, self._release.version)
        return RELEASES.get(version, self._release)
