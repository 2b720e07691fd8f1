"""The daemon as a peer among monitors: probe a list of targets with store, metrics and judge on, until SIGTERM.

    python bench/http_product.py TARGETS.json CA.pem INTERVAL [--timeout 4] [--no-judge] [--port 29464]

TARGETS.json is a list of URLs; every probe looks for "in-stock" in the page. One scrape of /metrics per 15 s. For the
judge to have something to do, the store is given a past of 120 runs per target first, and an update is opened.
The last thing this program does is to become the daemon, so that its process is the one to measure.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAST = 120

# Beside the daemon: opens the update, then scrapes. Shell and curl, so that it costs next to nothing.
COMPANION = """
until curl -sf http://127.0.0.1:{port}/-/ready >/dev/null; do sleep 0.2; kill -0 {pid} 2>/dev/null || exit; done
{start}
while kill -0 {pid} 2>/dev/null; do curl -s -o /dev/null http://127.0.0.1:{port}/metrics; sleep 15; done
"""


def configuration(urls: list[str], ca: str, interval: float, timeout: float, port: int) -> str:
    """One probe per target, in the daemon's own terms."""
    head = f"""
[shop]
name = "bench"
url = "http://127.0.0.1"
[daemon]
log_format = "json"
max_concurrency = {{ http = 256 }}
[web]
listen = "127.0.0.1:{port}"
[defaults]
interval = "{interval:g}s"
timeout = "{timeout:g}s"
[update]
interval_factor = 1
expire_after = "24h"
"""
    probes = [
        f'[[probe]]\nname = "t{number}"\nkind = "http"\nurl = "{url}"\ntls = {{ ca_file = "{ca}" }}\n'
        f'expect = {{ body_contains = ["in-stock"] }}\ncritical = {"true" if number < 10 else "false"}\n' for number, url in enumerate(urls)
    ]
    return head + "".join(probes)


async def past(state: Path, count: int, interval: float) -> None:
    """PAST runs of every target, as if the daemon had run for a while."""
    from monitor.store import Store
    from probes.sample import Outcome, Sample
    state.mkdir()
    generator, end = random.Random(1), time.time()
    async with Store(state) as store:
        for run in range(PAST, 0, -1):
            for number in range(count):
                seconds = 0.001 * generator.lognormvariate(0, 0.3)
                started = end - run * interval + number * interval / count
                store.add_sample(Sample(
                    probe=f"t{number}", outcome=Outcome.OK, seconds=seconds, started=started, ended=started + seconds, spacing=interval,
                    values={"resolve": 0.0, "connect": seconds / 4, "tls": 0.0, "processing": seconds / 2, "transfer": seconds / 4}))
            await asyncio.sleep(0)
        await store.write(lambda connection: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", type=Path)
    parser.add_argument("ca", type=Path)
    parser.add_argument("interval", type=float)
    parser.add_argument("--timeout", type=float, default=4)
    parser.add_argument("--port", type=int, default=29464)
    parser.add_argument("--no-judge", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tillwatch-bench-"))
    urls = json.loads(options.targets.read_text())
    (folder / "config.toml").write_text(configuration(urls, str(options.ca.resolve()), options.interval, options.timeout, options.port))
    if not options.no_judge:                     # in a process of its own: its CPU and memory are not the daemon's
        subprocess.run([sys.executable, "-c", f"import asyncio, sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'bench')!r}]; "
                        f"from pathlib import Path; import http_product; "
                        f"asyncio.run(http_product.past(Path({str(folder / 'state')!r}), {len(urls)}, {options.interval}))"], check=True)
    command = [sys.executable, "-m", "monitor", "-c", str(folder / "config.toml")]
    start = "" if options.no_judge else " ".join([*command, "update", "start", "bench", "> /dev/null"])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.Popen(["setsid", "sh", "-c", COMPANION.format(port=options.port, pid=os.getpid(), start=start)], env=environment)
    print(folder, flush=True)
    os.execve(sys.executable, [*command, "run"], environment)


if __name__ == "__main__":
    main()
