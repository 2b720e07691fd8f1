"""Which browser there is, and how it is started: in its own sandbox, with nothing of ours in its environment, reaching only what it may."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.checkout import confinement, sandbox
from probes.checkout.job import Launch
from probes.scrub import scrub

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

SHELLS = ("chromium-headless-shell",)
CHROMIUMS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
FIREFOXES = ("firefox-esr", "firefox")
OVER_BIDI = "moz-firefox"                    # Playwright's name for a Firefox as Mozilla and Debian build it, driven over WebDriver BiDi
ROOMY = 256 << 20                            # bytes free in /dev/shm with which Chromium's shared memory is left there
START_SECONDS = 20.0
# Beside those that Playwright gives, which already stop updates, reports, hints and other talk in the background.
SAVING = ("--disable-gpu", "--disable-domain-reliability", "--no-pings")
# What the browser is given of our environment, which may hold secrets, and proxies that would be a way around `hosts`.
PASSED_ON = ("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
             "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "FONTCONFIG_PATH", "FONTCONFIG_FILE", "LD_LIBRARY_PATH", "CHROME_DEVEL_SANDBOX")


class NoBrowserError(Exception):
    """There is no browser to be had; the text says why, and how to mend it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A browser that can be started. `path` is "" where Playwright knows it by `channel`, both where it is its own build."""

    words: str                               # for a person: what it is and where
    path: str = ""
    channel: str = ""


def find(launch: Launch) -> Found:
    """The first that there is: the one named, Playwright's own build, the system's. Raises NoBrowserError."""
    if launch.executable_path:
        return _named(launch)
    if launch.channel:
        return Found(f"channel {launch.channel}", channel=launch.channel)
    found = next(_candidates(launch), None)
    if found is None:
        raise NoBrowserError(_missing(launch))
    return found


def _named(launch: Launch) -> Found:
    path = Path(launch.executable_path)
    if not os.access(path, os.X_OK) or not path.is_file():
        raise NoBrowserError(f"[browser] executable_path: {path} is no program that this user can run")
    if launch.headed and is_shell(path):
        raise NoBrowserError(f"{path} has no window to show: for --headed name the full browser (Debian: apt install chromium)")
    channel = launch.channel
    if launch.browser == "firefox" and not channel and not path.resolve().is_relative_to(own_builds()):
        channel = OVER_BIDI
    return Found(str(path), str(path), channel)


def is_shell(path: Path) -> bool:
    """A Chromium that was built without windows, by its name."""
    return re.search(r"headless.shell", path.name) is not None


def _candidates(launch: Launch) -> Iterator[Found]:
    if launch.browser == "chromium":
        if not launch.headed and _has_own("chromium-headless-shell"):
            yield Found("Playwright's own chromium-headless-shell")
        if _has_own("chromium"):
            yield Found("Playwright's own Chromium", channel="" if launch.headed else "chromium")
        yield from _system(CHROMIUMS if launch.headed else (*SHELLS, *CHROMIUMS))
    else:
        if _has_own(launch.browser):
            yield Found(f"Playwright's own {launch.browser}")
        if launch.browser == "firefox":
            yield from _system(FIREFOXES, OVER_BIDI)


def _system(names: tuple[str, ...], channel: str = "") -> Iterator[Found]:
    for name in names:
        if path := shutil.which(name):
            yield Found(path, path, channel)


def _missing(launch: Launch) -> str:
    install = f"{sys.executable} -m playwright install {launch.browser}"
    if launch.browser == "webkit":
        return f"there is no WebKit: only Playwright's own build can be driven ({install})"
    if launch.browser == "firefox":
        return f"there is no Firefox: apt install firefox-esr (Debian), or {install}"
    if launch.headed:
        return f"there is no Chromium with windows: apt install chromium (Debian), or {install}"
    return f"there is no Chromium: apt install chromium-headless-shell (Debian), or {install}; or name one as [browser] executable_path"


def own_builds() -> Path:
    """Where Playwright keeps the builds that it has installed."""
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "")
    if named == "0":
        return _driver() / ".local-browsers"
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-playwright").absolute()


def _driver() -> Path:
    spec = find_spec("playwright")
    if spec is None or spec.origin is None:
        raise NoBrowserError("the Python package playwright is not installed: pip install playwright")
    return Path(spec.origin).parent / "driver" / "package"


def _has_own(name: str) -> bool:
    """Of the very revision that the installed Playwright drives, and whole."""
    known = json.loads((_driver() / "browsers.json").read_text(encoding="utf-8"))["browsers"]
    revision = next(one["revision"] for one in known if one["name"] == name)
    return os.access(own_builds() / f"{name.replace('-', '_')}-{revision}" / "INSTALLATION_COMPLETE", os.F_OK)


async def launch(playwright: "Playwright", how: Launch) -> "Browser":
    """A browser that runs. Raises NoBrowserError: none is there, its sandbox cannot be had, or it does not start."""
    from playwright.async_api import Error
    found = find(how)
    if why := await sandbox.refusal(how, found.path) or _no_screen(how):
        raise NoBrowserError(why)
    engine = {"chromium": playwright.chromium, "firefox": playwright.firefox, "webkit": playwright.webkit}[how.browser]
    try:
        return await engine.launch(**options(how, found))
    except Error as error:
        raise NoBrowserError(_why(error.message, found)) from error


def _no_screen(how: Launch) -> str:
    if not how.headed or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return ""
    return "--headed needs a screen: neither DISPLAY nor WAYLAND_DISPLAY is set (over ssh: ssh -X; without one: xvfb-run)"


def options(how: Launch, found: Found) -> dict[str, Any]:
    """What Playwright's `launch` is given. Raises NoBrowserError when `hosts` are none."""
    try:
        hosts = confinement.plain_hosts(how.hosts)
    except ValueError as error:
        raise NoBrowserError(str(error)) from None
    given: dict[str, Any] = {
        "headless": not how.headed, "slow_mo": how.slow_mo * 1000, "timeout": START_SECONDS * 1000, "args": [*how.args],
        "env": {name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }
    given |= {name: value for name, value in (("executable_path", found.path), ("channel", found.channel)) if value}
    if how.browser == "chromium":
        given["chromium_sandbox"] = not how.no_sandbox
        given["args"] += [*SAVING, *confinement.chromium_arguments(hosts)]      # of two alike the last counts: nothing in `args` opens what is closed
        if free(Path("/dev/shm")) >= ROOMY:                                     # noqa: S108 - looked at, not written to
            given["ignore_default_args"] = ["--disable-dev-shm-usage"]          # Playwright's, with which shared memory is files in /tmp
        return given
    given |= {"proxy": confinement.proxy(hosts)} if hosts else {}
    given |= {"firefox_user_prefs": confinement.firefox_preferences(hosts)} if how.browser == "firefox" else {}
    return given


def free(path: Path) -> int:
    """Bytes that may still be written there; 0 when there is no such place."""
    try:
        told = os.statvfs(path)
    except OSError:
        return 0
    return told.f_bavail * told.f_frsize


def _why(message: str, found: Found) -> str:
    """The line of Playwright's long message that counts."""
    if "sandbox" in message.lower() and ("No usable sandbox" in message or "sandboxing failed" in message):
        return (f"Chromium's sandbox cannot be had: {found.words} was refused its namespaces (Ubuntu: AppArmor wants a profile with `userns,` "
                "for this program); or set [browser] no_sandbox = true")
    lines = [line.strip(" ╔╗╚╝║═").removeprefix("BrowserType.launch: ") for line in message.splitlines()]
    first = next((line for line in lines if line), "")
    told = next((line for line in lines if re.search(r"error while loading|FATAL|[Cc]annot|denied|No space", line)), "")
    return scrub(f"{found.words} does not start: {first[:200]}" + (f" ({told[:300]})" if told not in first else ""))
