"""What a checkout flow of five pages costs: ours beside @elastic/synthetics, a bare warm playwright-core on Node, and a browser launched per run.

    python bench/browser/peers.py [--runs 10] [--turns 5] [--npm DIR] [--only ours,node,...] [--browser PATH]

CPU is user + system time of the whole process tree, browser included, by what the kernel gives a parent whose children have all ended. A turn
measures one run and RUNS + 1 runs of each, one after the other, so that a busy machine hits all alike; what is told is the cost of a further run,
start-up apart. All drive the same Chromium with the same arguments, without its sandbox as root. Every flow must have come to its last page.
Needs Debian's nginx-light, chromium-headless-shell, nodejs and npm; the npm packages are installed into DIR [default: a new temporary folder].
"""

import argparse
import asyncio
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from five_pages import BASE, shop, walked  # noqa: E402

from probes.checkout import processes  # noqa: E402
from probes.checkout.job import Job, Launch  # noqa: E402
from probes.checkout.link import Link  # noqa: E402
from probes.checkout.settings import BrowserSettings  # noqa: E402

PACKAGES = ("@elastic/synthetics@1.26.3", "playwright-core@1.64.1")
ARGUMENTS = ["--disable-gpu"]
SANDBOX = os.geteuid() != 0                      # as root Chromium's own cannot be had
SUBREAPER = 36                                   # PR_SET_CHILD_SUBREAPER of <sys/prctl.h>
Costs = dict[str, list[dict[str, float]]]

OURS = """
async def checkout(flow):
    page = flow.page
    async with flow.step("home"):
        await page.goto("/index.html")
        await page.wait_for_selector("#product")
    async with flow.step("product"):
        await page.click("#product")
        await page.wait_for_selector("#add")
    async with flow.step("basket"):
        await page.click("#add")
        await page.wait_for_selector(".total")
    async with flow.step("checkout"):
        await page.click("#checkout")
        await page.fill("#name", "Till Watch")
        await page.fill("#email", "till@shop.example")
        await page.fill("#card", "4242")
    async with flow.step("pay", submits=True):
        await flow.submit(page.locator("#pay"))
        await page.wait_for_selector("#thanks")
"""
WALK = """
  await page.goto(base + "/index.html"); await page.waitForSelector("#product")
  await page.click("#product"); await page.waitForSelector("#add")
  await page.click("#add"); await page.waitForSelector(".total")
  await page.click("#checkout"); await page.fill("#name", "Till Watch")
  await page.fill("#email", "till@shop.example"); await page.fill("#card", "4242")
  await page.click("#pay"); await page.waitForSelector("#thanks")
"""
NODE = """
const { chromium } = require("playwright-core")
const [base, runs, executablePath, options] = process.argv.slice(2)
const walk = async page => {""" + WALK + """}
;(async () => {
  const browser = await chromium.launch({ executablePath, ...JSON.parse(options) }), seconds = []
  for (let run = 0; run < +runs; run++) {
    const begun = performance.now(), context = await browser.newContext()
    await walk(await context.newPage())
    await context.close()
    seconds.push((performance.now() - begun) / 1000)
  }
  await browser.close()
  console.log(JSON.stringify(seconds))
})()
"""
ELASTIC = """
const { journey, step } = require("@elastic/synthetics")
for (let run = 0; run < +process.env.RUNS; run++) journey("buy " + run, ({ page, params: { base } }) => {
  step("home", async () => { await page.goto(base + "/index.html"); await page.waitForSelector("#product") })
  step("product", async () => { await page.click("#product"); await page.waitForSelector("#add") })
  step("basket", async () => { await page.click("#add"); await page.waitForSelector(".total") })
  step("checkout", async () => {
    await page.click("#checkout"); await page.fill("#name", "Till Watch")
    await page.fill("#email", "till@shop.example"); await page.fill("#card", "4242")
  })
  step("pay", async () => { await page.click("#pay"); await page.waitForSelector("#thanks") })
})
"""


# ---- who takes part: each a program that makes so many runs and prints the s of each, if it knows them -----------------

def ours(runs: int, browser: str) -> None:
    """As the daemon does it, in this process in its place: Link, worker, engine, with all that a run records."""
    settings = BrowserSettings(executable_path=browser, no_sandbox=not SANDBOX)
    launch = Launch(executable_path=browser, no_sandbox=not SANDBOX, hosts=("127.0.0.1",))

    async def walk() -> list[float]:
        link, seconds = Link(settings), []
        for number in range(runs):
            begun = time.perf_counter()
            report = await link.run(Job(run=f"run{number}", probe="bench", url=BASE, timeout=60.0, launch=launch, source=OURS), _unheard, _yes)
            seconds.append(time.perf_counter() - begun)
            if report.reason:
                raise SystemExit(f"{report.reason}: {report.evidence}")
        await link.close()
        return seconds
    print(json.dumps(asyncio.run(walk())))


def _unheard(_message: Mapping[str, Any]) -> None:
    pass


async def _yes() -> str:
    return ""


def launched(runs: int, browser: str) -> None:
    """Playwright as one begins with it: the driver is kept, each run has a browser of its own."""
    from playwright.async_api import async_playwright

    async def walk() -> list[float]:
        seconds = []
        async with async_playwright() as playwright:
            for _ in range(runs):
                begun = time.perf_counter()
                chromium = await playwright.chromium.launch(executable_path=browser, chromium_sandbox=SANDBOX, args=ARGUMENTS)
                page = await chromium.new_page()
                for action, *words in (
                    ("goto", f"{BASE}/index.html"), ("click", "#product"), ("wait_for_selector", "#add"), ("click", "#add"),
                    ("wait_for_selector", ".total"), ("click", "#checkout"), ("fill", "#name", "Till Watch"), ("fill", "#email", "till@shop.example"),
                    ("fill", "#card", "4242"), ("click", "#pay"), ("wait_for_selector", "#thanks"),
                ):
                    await getattr(page, action)(*words)
                await chromium.close()
                seconds.append(time.perf_counter() - begun)
        return seconds
    print(json.dumps(asyncio.run(walk())))


def commands(npm: Path, browser: str) -> dict[str, Any]:
    """Of each who takes part: number of runs -> (its command lines, one after the other, and its environment)."""
    options = {"chromiumSandbox": SANDBOX, "args": ARGUMENTS}
    (npm / "walk.js").write_text(NODE)
    (npm / "journeys").mkdir(exist_ok=True)
    (npm / "journeys" / "buy.journey.js").write_text(ELASTIC)
    elastic = ["node_modules/.bin/elastic-synthetics", "journeys", "--no-throttling", "--params", json.dumps({"base": BASE}),
               "--playwright-options", json.dumps(options | {"executablePath": browser}), *(["--sandbox"] if SANDBOX else [])]

    def own(name: str) -> Any:
        return lambda runs: ([[sys.executable, __file__, "--be", name, str(runs), browser]], {})
    return {
        "ours": own("ours"),
        "node": lambda runs: ([["node", "walk.js", BASE, str(runs), browser, json.dumps(options)]], {}),
        "launched": own("launched"),
        "elastic": lambda runs: ([[*elastic, "--screenshots", "off"]], {"RUNS": str(runs)}),
        "elastic-agent": lambda runs: ([[*elastic, "--rich-events", "--screenshots", "on"]] * runs, {"RUNS": "1"}),
    }


WHO = {
    "ours": "Tillwatch: warm, with all that a run records", "node": "playwright-core on Node: warm, records nothing",
    "launched": "playwright on Python: a browser per run, records nothing",
    "elastic": "@elastic/synthetics: journeys of one process, without screenshots",
    "elastic-agent": "@elastic/synthetics: a process per run, as its agent has it (--rich-events)",
}


# ---- measuring -------------------------------------------------------------------------------------------------------

def meter(command: list[str]) -> None:
    """Run it, and print what it and all that it started took: CPU s, wall s, and the largest sum of PSS that was seen (MiB)."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)         # what loses its parent becomes a child of this process, and is counted
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            among = processes.everything()
            peak[0] = max(peak[0], processes.memory(processes.below(os.getpid(), among) - {os.getpid()}))
    watching = threading.Thread(target=watch)
    watching.start()
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - begun
    over.set()
    watching.join()
    end = time.monotonic() + 10
    while time.monotonic() < end and len(processes.below(os.getpid(), processes.everything())) > 1:
        processes.reap()
        time.sleep(0.02)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "wall": wall, "pss": peak[0] / 2**20, "code": done.returncode,
                      "out": done.stdout[-100_000:], "err": done.stderr[-2000:]}))


def measured(npm: Path, lines: list[list[str]], environment: dict[str, str]) -> dict[str, float]:
    """The sums over these command lines."""
    total = {"cpu": 0.0, "wall": 0.0, "pss": 0.0, "walk": 0.0}
    for line in lines:
        metered = [sys.executable, __file__, "--meter", *line]
        told = json.loads(subprocess.run(metered, cwd=npm, env=os.environ | environment, capture_output=True, text=True, check=True).stdout)
        if told["code"]:
            raise SystemExit(f"{line[0]} failed: {told['out'][-1000:]}{told['err']}")
        walks = json.loads(told["out"].strip().splitlines()[-1]) if told["out"].lstrip().startswith("[") else []
        total = {"cpu": total["cpu"] + told["cpu"], "wall": total["wall"] + told["wall"], "pss": max(total["pss"], told["pss"]),
                 "walk": median(walks[1:] or walks or [0.0])}
    return total


def turn(npm: Path, command: Any, runs: int) -> dict[str, float]:
    """Of one who takes part: what a further run costs."""
    one, many = measured(npm, *command(1)), measured(npm, *command(runs + 1))
    wall = many["walk"] or (many["wall"] - one["wall"]) / runs
    return {"cpu": (many["cpu"] - one["cpu"]) / runs, "wall": wall, "pss": many["pss"], "first": one["cpu"]}


def table(costs: Costs) -> None:
    print("\n| | CPU s per further run | ours ÷ it, by turn | CPU s of one run, start-up with it | wall s per run | peak PSS MiB |")
    print("|---|---|---|---|---|---|")
    for name, turns in costs.items():
        middle = {key: median(found[key] for found in turns) for key in turns[0]}
        ratios = sorted(own["cpu"] / its["cpu"] for own, its in zip(costs.get("ours", []), turns, strict=False))
        share = f"{median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})" if ratios and name != "ours" else ""
        print(f"| {WHO[name]} | {middle['cpu']:.2f} | {share} | {middle['first']:.2f} | {middle['wall']:.2f} | {middle['pss']:.0f} |")


def installed(npm: Path) -> None:
    """The npm packages, without the browsers that they would bring."""
    if not (npm / "node_modules/@elastic/synthetics").exists():
        npm.mkdir(parents=True, exist_ok=True)
        (npm / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES], cwd=npm, check=True, stdout=subprocess.DEVNULL,
                       env=os.environ | {"PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--npm", type=Path)
    parser.add_argument("--only", default=",".join(WHO))
    parser.add_argument("--browser", default=shutil.which("chromium-headless-shell"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        npm = (given.npm or Path(folder) / "npm").absolute()
        installed(npm)
        every, costs, flows = commands(npm, given.browser), Costs(), 0
        with shop(Path(folder)) as log:
            for number in range(given.turns):
                for name in given.only.split(","):
                    costs.setdefault(name, []).append(turn(npm, every[name], given.runs))
                    flows += given.runs + 2
                    print(f"turn {number + 1}: {name}: " + ", ".join(f"{key} {value:.2f}" for key, value in costs[name][-1].items()), flush=True)
                    if walked(log) != flows:
                        raise SystemExit(f"{name}: {flows} flows should have come to their end, {walked(log)} did")
    print("load:", " ".join(f"{load:.1f}" for load in os.getloadavg()))
    table(costs)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--meter"]:
        meter(sys.argv[2:])
    elif sys.argv[1:2] == ["--be"]:
        {"ours": ours, "launched": launched}[sys.argv[2]](int(sys.argv[3]), sys.argv[4])
    else:
        main()
