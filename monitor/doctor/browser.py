"""The browser of checkout probes: does it really start here, in its own sandbox, and is there room for it?"""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from monitor.config import Config
from monitor.doctor.finding import Finding
from monitor.doctor.network import Reach
from probes.checkout import browsers, processes
from probes.checkout.job import Job, Launch
from probes.checkout.link import Link
from probes.checkout.settings import CheckoutSettings

NAME = "browser"
SECONDS = 10.0                               # for all browsers together
UNITS = Path("/etc/systemd/system")
SOCKET = "/run/tillwatch-browser/socket"     # of the unit that is shipped
_CLOSED = "MemoryDenyWriteExecute="
_LOOK = """\
async def checkout(flow):
    async with flow.step("look"):
        await flow.page.goto("data:text/html,<script>document.title = 6 * 7</script>")
        assert await flow.page.title() == "42"
"""
_NOWHERE = "tillwatch.invalid"               # all that it may reach


async def browser(config: Config, _reach: Reach) -> AsyncIterator[Finding]:
    """Nothing where no probe needs one. Each engine that is needed runs a script, where the daemon's own runs would."""
    checkouts: list[object] = [probe for probe in config.probe if probe.kind == "checkout"]
    needed = tuple(dict.fromkeys(probe.browser for probe in checkouts if isinstance(probe, CheckoutSettings)))
    if not needed:
        return
    if config.browser.socket is None:
        for finding in (*_daemon_s_unit(config), *_room(config)):
            yield finding
    if config.browser.no_sandbox:
        yield Finding(NAME, "warning", "it runs without its own sandbox: a page that breaks out is this user",
                      "remove no_sandbox from [browser], and run it as a user who is not root")
    link = Link(config.browser)
    try:
        for engine in needed:
            yield await _look(link, engine, SECONDS / len(needed))
    finally:
        await link.close()


async def _look(link: Link, engine: Literal["chromium", "firefox", "webkit"], seconds: float) -> Finding:
    settings = link.settings
    launch = Launch(browser=engine, executable_path=settings.executable_path, channel=settings.channel, no_sandbox=settings.no_sandbox,
                    hosts=(_NOWHERE,))
    job = Job(run="doctor", probe="doctor", url=f"http://{_NOWHERE}/", timeout=seconds, launch=launch, source=_LOOK)
    report = await link.run(job, _unheard, _no)
    where = f" behind {settings.socket}" if settings.socket else ""
    if report.reason:
        return Finding(NAME, "fault", f"{engine}{where}: {report.evidence or report.reason}", _mend(report.evidence, settings.socket))
    kind = "" if settings.socket else f" ({_found(launch)})"
    return Finding(NAME, "ok", f"{engine}{where} starts and runs scripts{kind}" + ("" if settings.no_sandbox else ", in its own sandbox"))


def _unheard(_message: Mapping[str, Any]) -> None:
    pass


async def _no() -> str:
    return "this is only a look"


def _found(launch: Launch) -> str:
    try:
        return browsers.find(launch).words
    except browsers.NoBrowserError as error:
        return str(error)


def _mend(evidence: str, socket: Path | None) -> str:
    if "there is no " in evidence:
        return "install one; docs/install.md, The browser"
    if "sandbox" in evidence or "as root" in evidence:
        return f'use tillwatch-browser.service: [browser] socket = "{SOCKET}"'
    if socket:
        return "systemctl status tillwatch-browser; is this user in the group of the socket?"
    return "try it by hand: tillwatch probe NAME; docs/install.md, The browser"


def _daemon_s_unit(config: Config) -> Iterator[Finding]:
    """The shipped unit lets no program write programs into memory, as every browser does."""
    unit = "tillwatch.service" if config.path.parent == Path("/etc/tillwatch") else "tillwatch@.service"
    files = [UNITS / unit, *sorted(UNITS.glob(f"{unit}.d/*.conf"))]
    if not config.path.is_relative_to("/etc/tillwatch") or not files[0].exists():
        return
    told = [line for file in files for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith(_CLOSED)]
    if told and told[-1].removeprefix(_CLOSED).strip() not in {"no", "false", "off", "0", ""}:
        yield Finding(NAME, "fault", f"no browser can run in {unit}, which has {told[-1]}",
                      f'systemctl enable --now tillwatch-browser, and [browser] socket = "{SOCKET}"')


def _room(config: Config) -> Iterator[Finding]:
    free, wanted = processes.free_memory(), config.browser.min_free_memory
    text = f"{free / 1e6:.0f} MB of memory are free, {wanted / 1e6:.0f} MB are asked for before a run"
    if free < wanted:
        yield Finding(NAME, "fault", text, "give this machine more memory; [browser] min_free_memory says how much is asked for")
    else:
        yield Finding(NAME, "ok", text)
    shared = Path("/dev/shm")                # noqa: S108 - looked at, not written to
    if (room := browsers.free(shared)) < browsers.ROOMY:
        yield Finding(NAME, "warning", f"{shared} has {room / 1e6:.0f} MB: what its processes share goes through files in /tmp, which takes time",
                      "of a container: --shm-size=512m")
