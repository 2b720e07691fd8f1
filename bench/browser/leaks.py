"""Many flows, one after the other: what is left of them, and what the daemon's other work feels of them.

    python bench/browser/leaks.py [--flows 1000] [--probes 20] [--quiet 30] [--every 50] [--socket]

Every flow loads five pages of a small shop on loopback (a process of its own) through `Link`, as the daemon does it: worker, real engine, real
Chromium, recycled as usual. After every so many flows: processes, descriptors and temporary files that exist because of the browser, and the
resident memory of this process, which stands for the daemon. At the end the link is closed, and what is then left is told after 5 s; the slope
is that of the least squares over the second half. With --probes, so many http probes a second are started beside, first for --quiet s without
flows, and the lateness of their starts is compared. --socket: the browser is a service of its own, as `tillwatch browser --listen`.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Mapping
from pathlib import Path
from statistics import linear_regression, median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from probes import http  # noqa: E402
from probes.checkout.job import Job, Launch  # noqa: E402
from probes.checkout.link import Link  # noqa: E402
from probes.checkout.server import serve  # noqa: E402
from probes.checkout.settings import BrowserSettings  # noqa: E402
from probes.clients import Clients  # noqa: E402

NO_SANDBOX = os.geteuid() == 0               # as root Chromium's own cannot be had
STEPS = ("home", "product", "basket", "address", "review")
STEP = """
    async with flow.step("{name}"):
        await flow.page.goto("/{name}")
        await flow.page.get_by_role("button").wait_for()
"""
FLOW = "async def checkout(flow):" + "".join(STEP.replace("{name}", name) for name in STEPS)


# The shop ------------------------------------------------------------------------------------------------------------

def shop() -> None:
    """Five pages with a script, a style and some pictures each. Prints its port."""
    from aiohttp import web
    picture = b"<svg xmlns='http://www.w3.org/2000/svg' width='40' height='40'><rect width='40' height='40' fill='teal'/></svg>"
    parts = {"a.js": ("text/javascript", b"document.title += '.';" * 500), "a.css": ("text/css", b"p{margin:1em}" * 500),
             "a.svg": ("image/svg+xml", picture)}
    text = "".join(f"<p>Article {number} <img src='/static/a.svg?{number}' width=40 height=40></p>" for number in range(12))

    async def page(request: web.Request) -> web.Response:
        head = "<!doctype html><title>Shop</title><link rel=stylesheet href=/static/a.css><script src=/static/a.js></script>"
        return web.Response(text=f"{head}<h1>{request.path}</h1>{text}<button>Next</button>", content_type="text/html")

    async def part(request: web.Request) -> web.Response:
        kind, body = parts[request.match_info["name"]]
        return web.Response(body=body, content_type=kind)

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/static/{name}", part)
        app.router.add_get("/{name:[a-z]*}", page)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()
    asyncio.run(run())


# What exists ---------------------------------------------------------------------------------------------------------

def count(base: Path) -> tuple[int, int, int, float]:
    """Processes of the browser, our descriptors, its temporary folders, and our resident memory in MB."""
    parents, found = {}, set[int]()
    for one in Path("/proc").iterdir():
        if one.name.isdigit() and one.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                parents[int(one.name)] = int((one / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                if str(base).encode() in (one / "cmdline").read_bytes() + (one / "environ").read_bytes():
                    found.add(int(one.name))
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
    return len(found), len(list(Path("/proc/self/fd").iterdir())), len(list(base.iterdir())), resident


class Probes:
    """Starts http probes at an even pace and notes how late each start was, in ms."""

    def __init__(self, url: str, rate: float) -> None:
        self._settings = http.HttpSettings.model_validate({"name": "page", "url": url})
        self._rate, self.late, self.failed = rate, array("f"), 0      # small: it counts as the daemon's memory

    async def run(self) -> None:
        loop, running = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        async with Clients() as clients:
            due = loop.time()
            while True:
                due += 1 / self._rate
                await asyncio.sleep(due - loop.time())
                self.late.append(1000 * (loop.time() - due))
                task = asyncio.create_task(self._one(clients))
                running.add(task)
                task.add_done_callback(running.discard)

    async def _one(self, clients: Clients) -> None:
        sample = await http.probe(self._settings, clients, None)
        self.failed += sample.reason != ""

    def told(self, when: str) -> str:
        late, self.late = sorted(self.late), array("f")
        if len(late) < 10:
            return f"{when}: too few starts"
        return (f"http probes {when}: {len(late)} starts, late p50 {median(late):.2f} ms, p99 {quantiles(late, n=100)[98]:.1f} ms, "
                f"worst {late[-1]:.1f} ms, failed {self.failed}")


# The flows -----------------------------------------------------------------------------------------------------------

async def flows(link: Link, url: str, options: argparse.Namespace, base: Path) -> None:
    walls, bad, rows = [], 0, []

    def told(_: Mapping[str, Any]) -> None:
        pass

    async def ask() -> str:
        return ""
    print(f"{'flows':>6} {'processes':>9} {'fds':>5} {'folders':>7} {'RSS MB':>8}   wall p50")
    for number in range(1, options.flows + 1):
        began = time.monotonic()
        job = Job(run=f"r{number}", probe="checkout", url=url, timeout=30, launch=Launch(no_sandbox=NO_SANDBOX), source=FLOW)
        report = await link.run(job, told, ask)
        walls.append(time.monotonic() - began)
        if report.reason:
            bad += 1
            print(f"flow {number}: {report.reason}: {report.evidence}", flush=True)
        if number % options.every == 0 or number == options.flows:
            row = count(base)
            rows.append((number, row[3]))
            print(f"{number:6} {row[0]:9} {row[1]:5} {row[2]:7} {row[3]:8.1f}   {median(walls[-options.every:]):.3f} s", flush=True)
    spread = quantiles(walls, n=20, method="inclusive") if len(walls) > 1 else walls
    print(f"flows {options.flows}, not ok {bad}, wall p5 {spread[0]:.3f} s, p50 {median(walls):.3f} s, p95 {spread[-1]:.3f} s, "
          f"worst {max(walls):.3f} s")
    if len(half := rows[len(rows) // 2:]) > 1:
        print(f"RSS of the daemon: {1000 * linear_regression(*zip(*half, strict=True)).slope:+.2f} MB per 1,000 flows over the second half")


async def run(options: argparse.Namespace, url: str, base: Path) -> None:
    before = count(base)
    probes, beside = Probes(f"{url}/home", options.probes or 1), None
    if options.probes:
        beside = asyncio.create_task(probes.run())
        await asyncio.sleep(options.quiet)
        print(probes.told("without flows"))
    socket = base.parent / f"{base.name}.sock" if options.socket else None
    link = Link(BrowserSettings(no_sandbox=NO_SANDBOX).model_copy(update={"socket": socket}))
    await flows(link, url, options, base)
    if beside:
        print(probes.told("beside flows"))
        beside.cancel()
        await asyncio.wait([beside])
    began = time.monotonic()
    await link.close()
    print(f"closed in {time.monotonic() - began:.3f} s")
    if not options.socket:
        await asyncio.sleep(5)
        after = count(base)
        print(f"left 5 s after: {after[0]} processes, {after[1] - before[1]:+} descriptors, {after[2]} folders")


async def service(path: Path) -> None:
    await serve(path, BrowserSettings(no_sandbox=NO_SANDBOX), ready=lambda: print("ready", flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--probes", type=float, default=0, help="http probes a second beside")
    parser.add_argument("--quiet", type=float, default=30, help="s for which these run without flows first")
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--socket", action="store_true")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="leaks-"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import asyncio, leaks, pathlib, tempfile; "
    children = [subprocess.Popen([sys.executable, "-c", f"{here}leaks.shop()"], stdout=subprocess.PIPE, text=True)]
    if options.socket:
        code = f"{here}tempfile.tempdir = {str(base)!r}; asyncio.run(leaks.service(pathlib.Path({str(base) + '.sock'!r})))"
        children.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment))
        assert children[1].stdout
        assert children[1].stdout.readline() == "ready\n"
    tempfile.tempdir = str(base)
    try:
        assert children[0].stdout
        asyncio.run(run(options, f"http://127.0.0.1:{int(children[0].stdout.readline())}", base))
        if options.socket:
            children[1].terminate()
            children[1].wait()
            time.sleep(5)
            print(f"left 5 s after the service was stopped: {count(base)[0]} processes, {count(base)[2]} folders")
    finally:
        for child in children:
            child.kill()
            child.wait()
        base.rmdir()


if __name__ == "__main__":
    main()
