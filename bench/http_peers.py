"""CPU, memory and punctuality of the daemon beside Prometheus + blackbox_exporter, against one local nginx.

    python bench/http_peers.py [--targets 1000] [--interval 5] [--seconds 30] [--runs 3] [--only product,prometheus] [--no-judge]

Both probe the same loopback targets every INTERVAL seconds, each probe over a fresh connection, and look into the page.
CPU is user + system time of all processes of the monitor over a window, divided by the requests that arrived at the
target in it. The daemon runs with its store, its metrics (one scrape per 15 s) and the judge on an open update. The
monitors take turns, so that a busy machine hits both alike: quote the ratios. Needs Debian's nginx, prometheus and
prometheus-blackbox-exporter.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent))
from http_probe import PLAIN, PORTS, TLS, serve

TICK = os.sysconf("SC_CLK_TCK")
PRODUCT, BLACKBOX, PROMETHEUS = 29464, 29115, 29090
BLACKBOX_CONFIG = """
modules:
  http:
    prober: http
    timeout: 4s
    http: {preferred_ip_protocol: ip4, fail_if_body_not_matches_regexp: [in-stock], tls_config: {ca_file: %s}}
"""
PROMETHEUS_CONFIG = """
global: {scrape_interval: %gs, scrape_timeout: 4s}
scrape_configs:
  - job_name: shop
    metrics_path: /probe
    params: {module: [http]}
    static_configs: [{targets: %s}]
    relabel_configs:
      - {source_labels: [__address__], target_label: __param_target}
      - {source_labels: [__param_target], target_label: instance}
      - {target_label: __address__, replacement: "127.0.0.1:%d"}
"""


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def cpu(pids: list[int]) -> float:
    """CPU seconds of these processes, children that have ended included."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:                          # a short-lived child, counted with its parent by now
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / TICK


def rss(pids: list[int]) -> float:
    """MiB in memory."""
    pages = sum(int(path.read_text().split()[1]) for pid in pids if (path := Path(f"/proc/{pid}/statm")).exists())
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def started(*commands: list[str], log: Path) -> Iterator[list[int]]:
    with log.open("ab") as out:
        running = [subprocess.Popen(command, stdout=out, stderr=out) for command in commands]
    try:
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(20)


def wait_for(url: str, wanted: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if wanted in answer.read().decode():
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{url} did not say {wanted!r} within {seconds} s")


@contextmanager
def product(folder: Path, urls: list[str], interval: float, judge: bool = True) -> Iterator[list[int]]:
    (folder / "targets.json").write_text(json.dumps(urls))
    script = str(Path(__file__).with_name("http_product.py"))
    command = [sys.executable, script, str(folder / "targets.json"), str(folder / "ca.pem"), f"{interval:g}", "--port", str(PRODUCT)]
    command += [] if judge else ["--no-judge"]
    with started(command, log=folder / "product.log") as pids:
        wait_for(f"http://127.0.0.1:{PRODUCT}/api/v1/updates", '"bench"' if judge else '"updates"', 300)
        yield pids


@contextmanager
def prometheus(folder: Path, urls: list[str], interval: float) -> Iterator[list[int]]:
    (folder / "blackbox.yml").write_text(BLACKBOX_CONFIG % (folder / "ca.pem"))
    (folder / "prometheus.yml").write_text(PROMETHEUS_CONFIG % (interval, json.dumps(urls), BLACKBOX))
    data = tempfile.mkdtemp(dir=folder)
    commands = [
        ["prometheus-blackbox-exporter", f"--config.file={folder}/blackbox.yml", f"--web.listen-address=127.0.0.1:{BLACKBOX}"],
        ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{PROMETHEUS}"],
    ]
    with started(*commands, log=folder / "prometheus.log") as pids:
        wait_for(f"http://127.0.0.1:{PROMETHEUS}/api/v1/query?query=count(probe_success==1)", f'"{len(urls)}"', 120)
        yield pids


def arrivals(folder: Path, begin: float, end: float) -> dict[str, list[float]]:
    """Page -> times at which it was asked for, from the target's log."""
    found: dict[str, list[float]] = {}
    for line in (folder / "access.log").read_text().splitlines():
        at, page = line.split()
        if begin <= float(at) < end:
            found.setdefault(page, []).append(float(at))
    return found


def punctuality(found: dict[str, list[float]], interval: float) -> tuple[list[float], int]:
    """Deviation of every arrival from the best grid of its own target in ms, and how many runs are missing in it."""
    late, missing = [], 0
    for times in found.values():
        ticks = [round((at - times[0]) / interval) for at in times]
        middle = median(at - tick * interval for at, tick in zip(times, ticks, strict=True))
        late += [abs(at - tick * interval - middle) * 1000 for at, tick in zip(times, ticks, strict=True)]
        missing += ticks[-1] + 1 - len(set(ticks))
    return sorted(late), missing


def own_words() -> str:
    """What the daemon says of itself: start lateness and loop lag, from its histograms."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PRODUCT}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    said = []
    for name in ("tillwatch_scheduler_lag_seconds", "tillwatch_event_loop_lag_seconds"):
        pattern = rf'{name}_bucket{{(?=[^}}]*le="([^"]+)")(?![^}}]*kind="(?:other|browser)")[^}}]*}} (\S+)'
        buckets = [(float(edge), float(count)) for edge, count in re.findall(pattern, text)]
        total = buckets[-1][1]
        quantiles = [next(edge for edge, count in buckets if count >= share * total) for share in (0.5, 0.99)]
        said.append(f"{name} p50 <= {quantiles[0] * 1000:g} ms, p99 <= {quantiles[1] * 1000:g} ms")
    return "; ".join(said)


def measure(monitor: str, folder: Path, urls: list[str], options: argparse.Namespace) -> dict[str, float | str]:
    """One turn of one monitor."""
    judge = not options.no_judge
    enter = product(folder, urls, options.interval, judge) if monitor == "product" else prometheus(folder, urls, options.interval)
    with enter as pids:
        time.sleep(2 * options.interval)
        everyone = [pid for root in pids for pid in tree(root)]
        before, begin = cpu(everyone), time.time()
        time.sleep(options.seconds)
        spent, end, memory = cpu(everyone) - before, time.time(), rss(everyone)
        words = own_words() if monitor == "product" else ""
        time.sleep(1.5)                                    # the target's log is flushed once a second
    found = arrivals(folder, begin, end)
    late, missing = punctuality(found, options.interval)
    count = sum(map(len, found.values()))
    return {"us": 1e6 * spent / count, "rate": count / options.seconds, "rss": memory, "missing": missing,
            "p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)], "words": words}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="product,prometheus")
    parser.add_argument("--schemes", default="http,https")
    parser.add_argument("--no-judge", action="store_true", help="the product without an open update")
    options = parser.parse_args()
    print(f"load before: {Path('/proc/loadavg').read_text().strip()}")
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        folder = Path(name)
        server = serve(folder, log=True)
        try:
            for scheme in options.schemes.split(","):
                urls = [f"{scheme}://127.0.0.1:{(TLS if scheme == 'https' else PLAIN) + i % PORTS}/t/{i}" for i in range(options.targets)]
                report(scheme, urls, folder, options)
        finally:
            server.terminate()
            server.wait()


def report(scheme: str, urls: list[str], folder: Path, options: argparse.Namespace) -> None:
    turns: dict[str, list[dict[str, float | str]]] = {monitor: [] for monitor in options.only.split(",")}
    for _ in range(options.runs):
        for monitor, results in turns.items():
            results.append(measure(monitor, folder, urls, options))
            print(scheme, monitor, {k: round(v, 1) if isinstance(v, float) else v for k, v in results[-1].items()}, flush=True)
    middle = {monitor: median(float(r["us"]) for r in results) for monitor, results in turns.items()}
    for monitor, results in turns.items():
        us = [float(r["us"]) for r in results]
        memory, p50, p99 = (median(float(r[name]) for r in results) for name in ("rss", "p50", "p99"))
        missing = sum(int(r["missing"]) for r in results)
        print(f"| {monitor} | {scheme} | {middle[monitor]:.0f} ({min(us):.0f}-{max(us):.0f}) | {memory:.0f} | {p50:.1f} / {p99:.1f} | {missing} |")
    if len(middle) == 2:
        ratio = middle["product"] / middle["prometheus"]
        memory = median(float(r["rss"]) for r in turns["product"]) / median(float(r["rss"]) for r in turns["prometheus"])
        print(f"{scheme}: CPU per probe {ratio:.2f} of Prometheus + blackbox_exporter, RSS {memory:.2f}", flush=True)


if __name__ == "__main__":
    main()
