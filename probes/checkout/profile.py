"""The returning customer: a browser that has been in the shop before, with the files and service workers that it kept from then.

What is kept is the storage of one visit, and every run begins with a copy of it: so it stays from before an update, however many runs come after.
Cookies are not kept: a basket that is full already is no beginning of a checkout.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, BrowserType

from probes.checkout import browsers
from probes.checkout.job import Job

KEPT = 7 * 86_400.0        # s after which the visit is made anew
MOST = 300_000_000         # bytes of a visit; a larger one is not kept
_VOLATILE = ("Singleton*", "*.lock", "lockfile", "DevToolsActivePort", "Crash Reports", "BrowserMetrics*")


class Visit:
    """The storage of one run: a copy of the kept visit, or empty, to become one."""

    def __init__(self, kept: Path, now: float) -> None:
        self._kept = kept
        self._folder = Path(tempfile.mkdtemp(prefix="profile-"))
        self.first = not _fresh(kept, now)
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.first:
            shutil.copytree(kept, self._folder, dirs_exist_ok=True, symlinks=True)

    async def open(self, engine: BrowserType, job: Job, options: Mapping[str, Any]) -> BrowserContext:
        """A browser of its own, with this storage. Raises Playwright's Error, and NoBrowserError."""
        how = {name: value for name, value in options.items() if name != "storage_state"}
        context = await engine.launch_persistent_context(self._folder, **browsers.options(job.launch, browsers.find(job.launch)), **how)
        await context.clear_cookies()
        await context.add_cookies(options["storage_state"]["cookies"])
        for page in context.pages:
            await page.close()
        return context

    def close(self, *, keep: bool) -> None:
        """Once the browser is closed: keep a first visit that came out, and leave nothing else."""
        if self.first and keep and _size(self._folder) <= MOST:
            with suppress(OSError):                            # the next run then is a first visit again
                self._keep()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self) -> None:
        new = self._kept.with_name(f"{self._kept.name}.{os.getpid()}")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(self._folder, new, symlinks=True, ignore=shutil.ignore_patterns(*_VOLATILE))
        shutil.rmtree(self._kept, ignore_errors=True)
        new.rename(self._kept)


def visit(job: Job) -> Visit | None:
    """The storage that a run begins with; None when it is a fresh one. Raises OSError."""
    if job.profile != "returning":
        return None
    if not job.profile_dir:
        raise OSError("there is no folder for it: give the service a StateDirectory=")
    return Visit(Path(job.profile_dir), time.time())


def _fresh(kept: Path, now: float) -> bool:
    try:
        return 0 <= now - kept.stat().st_mtime < KEPT
    except OSError:
        return False


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
