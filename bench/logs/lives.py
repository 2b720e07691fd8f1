"""Kill the daemon while a shop logs 5,000 lines a second and logrotate turns the file over: is every line counted once?

  python bench/logs/lives.py [--how create|compress|copytruncate] [--kills 50] [--rotations 100] [--rate 5000]

The same as tests/error_log/test_log_kills.py, for longer: about two minutes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "tests"), str(Path(__file__).resolve().parents[2] / "tests" / "error_log")]
from log_lives import LEVELS, live  # noqa: E402 - it stands with the tests

HOW = {"create": "create", "compress": "create\n    compress\n    delaycompress", "copytruncate": "copytruncate"}


def main() -> int:
    """0 when no line was lost or counted twice; of copytruncate, when none was counted twice."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--how", choices=HOW, default="create")
    ask.add_argument("--kills", type=int, default=50)
    ask.add_argument("--rotations", type=int, default=100)
    ask.add_argument("--rate", type=float, default=5000.0)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ended = live(Path(folder), how=HOW[given.how], kills=given.kills, rotations=given.rotations, rate=given.rate,
                     told=lambda what: print(what, end="\r", file=sys.stderr, flush=True))
    missing = {"lines": sum(ended.written.values()) - ended.counted["lines"],
               **{level: ended.written[level] - ended.counted[name] for level, name in LEVELS.items()}}
    print(json.dumps({"how": given.how, "kills": ended.kills, "rotations": ended.rotations, "lines written": sum(ended.written.values()),
                      "written less counted": missing}))
    return 0 if all(count == 0 or (given.how == "copytruncate" and count > 0) for count in missing.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
