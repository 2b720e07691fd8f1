"""Bytes and microseconds per stored sample.

    python bench/store.py [--samples 100000]

Samples of 1,000 series with five phases each, handed over and committed in one transaction by the writer thread.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from monitor.store import Store
from probes.sample import Outcome, Sample

PHASES = {"resolve": 0.0, "connect": 0.001, "tls": 0.01, "processing": 0.1, "transfer": 0.2}


async def measure(count: int, folder: Path) -> float:
    """Microseconds per sample, from the hand-over of the batch to its commit."""
    async with Store(folder) as store:
        for number in range(count):
            store.add_sample(Sample(probe=f"p{number % 1000}", outcome=Outcome.OK, seconds=0.1, started=time.time(), values=PHASES, spacing=30.0))
        begun = time.perf_counter()
        await store.write(lambda connection: connection.execute("SELECT 1").fetchone())
        return (time.perf_counter() - begun) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    count = parser.parse_args().samples
    with tempfile.TemporaryDirectory(prefix="bench-store-") as name:
        took = asyncio.run(measure(count, Path(name)))
        size = sum(path.stat().st_size for path in Path(name).glob("tillwatch.sqlite3*"))
    print(f"{count} samples: {took:.1f} us and {size / count:.1f} bytes each")


if __name__ == "__main__":
    main()
