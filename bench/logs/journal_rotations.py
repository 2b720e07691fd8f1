"""A journal rotated and vacuumed every two seconds, read by one who is killed, cancelled and forgets: `python bench/logs/journal_rotations.py`.

As root: a real systemd-journald in mounts of its own, see tests/error_log. Prints what was lost and what was read twice; exit code 1 when
anything was read twice, or lost without being known.
"""

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/error_log"))

from journal_daemon import Daemon
from journal_rotations import Plan, play


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=int, default=500, help="entries/s")
    parser.add_argument("--rotate", type=float, default=2.0, help="s between two rotations, each followed by a vacuum")
    parser.add_argument("--kept", type=int, default=2, help="archived files that a vacuum leaves")
    parser.add_argument("--every", type=float, default=0.5, help="s between two reads")
    parser.add_argument("--calm", action="store_true", help="nobody is killed, cancelled or forgets: what reading costs")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    chances = {"kill": 0.0, "cancel": 0.0, "forget": 0.0} if given.calm else {}
    plan = Plan(given.seconds, given.rate, given.rotate, given.kept, given.every, seed=given.seed, **chances)
    daemon = Daemon()
    try:
        account = asyncio.run(play(daemon, plan, lambda line: print(line, file=sys.stderr)))
    finally:
        daemon.stop()
    print(f"logged {account.logged}, lost {account.lost} (known: {account.gap}), read twice {account.double}, "
          f"in order: {account.order == sorted(account.order)}")
    print(f"{account.reads} reads, {account.kills} kills, {account.cancelled} cancelled, {account.forgotten} forgotten, "
          f"{account.rotations} rotations")
    ours, theirs = (seconds / max(1, account.logged) * 1e6 for seconds in (account.ours, account.theirs))
    print(f"CPU per entry: {ours:.0f} µs here, {theirs:.0f} µs in journalctl and its like; longest hold-up {account.slowest * 1e3:.0f} ms")
    for text, count in [*account.warnings.items(), *account.problems.items()]:
        if text:
            print(f"{count} x {text}")
    return int(account.lost > account.gap or account.double > 0)


if __name__ == "__main__":
    sys.exit(main())
