"""Whether a browser can have its own sandbox here, told before it is started: it is never run without one unless that was asked for."""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from probes.checkout.job import Launch

# In user, PID and network namespaces of its own, as Chromium's sandbox has it. In two calls, so that an AppArmor which allows only the first is seen.
_NAMESPACES = "import ctypes; c = ctypes.CDLL(None); raise SystemExit(any(c.unshare(flag) for flag in (0x10000000, 0x60000000)))"
_HELPER = "chrome-sandbox"
NO_NAMESPACES = ("Chromium's sandbox cannot be had: this user may make no namespaces; see sysctl user.max_user_namespaces and "
                 "kernel.unprivileged_userns_clone, RestrictNamespaces= of the unit, the seccomp profile of the container; "
                 "or set [browser] no_sandbox = true")


async def refusal(how: Launch, program: str, user: Callable[[], int] = os.geteuid) -> str:
    """Why the browser at the path `program` ("" = Playwright's own) is not started, and what to do; "" when it may be.

    Root is refused Firefox and WebKit too, though they would start: a page that breaks out would be root.
    """
    if how.no_sandbox:
        return ""
    if user() == 0:
        what = "Chromium's sandbox cannot be had as root" if how.browser == "chromium" else "as root no browser is run"
        return f"{what}; run as another user, or set [browser] no_sandbox = true"
    if how.browser != "chromium" or _by_profile() or _by_helper(program) or await namespaces():
        return ""
    return NO_NAMESPACES


async def namespaces() -> bool:
    """Whether a process of this user can be put into namespaces of its own. Tried by a process that ends at once."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", _NAMESPACES)
    return await process.wait() == 0


def _by_profile() -> bool:
    """Whether AppArmor says program by program who may make namespaces (Ubuntu since 23.10): then only the browser itself can try."""
    try:
        return Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def _by_helper(program: str) -> bool:
    """Whether there is the helper that belongs to root and does without namespaces of ours (Debian: chromium-sandbox)."""
    if re.search(r"^NoNewPrivs:\s*1", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE):
        return False
    helpers = [Path(named) for named in (os.environ.get("CHROME_DEVEL_SANDBOX"), f"/usr/lib/chromium/{_HELPER}") if named]
    helpers += [Path(program).resolve().parent / _HELPER] if program else []
    return any(_is_root_s(helper) for helper in helpers)


def _is_root_s(helper: Path) -> bool:
    """It runs as root whoever starts it."""
    try:
        told = helper.stat()
    except OSError:
        return False
    return told.st_uid == 0 and told.st_mode & 0o4001 == 0o4001
