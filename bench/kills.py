"""The campaign of `kill -9` by hand, longer than in the tests: `python bench/kills.py [--kills 1000] [--seed 7] [--keep DIR]`.

Real daemons under flapping probes, killed at random instants, with a history checker at the end: see tests/campaign. Prints what each
lane saw and every promise that was not kept; exit code 1 when there is one.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "campaign"))

from kill_campaign import campaign


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="keep databases and logs there")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="tillwatch-kills-"))
    begun = time.monotonic()
    outcomes = campaign(folder, given.seed, given.kills)
    for outcome in outcomes:
        print(json.dumps(outcome.summary()))
        for wrong in outcome.wrong:
            print(f"WRONG {wrong.promise}: {wrong.what}")
    failed = any(outcome.wrong for outcome in outcomes)
    kills = sum(outcome.kills for outcome in outcomes)
    print(f"{kills} kills in {time.monotonic() - begun:.0f} s, seed {given.seed}: {'NOT ' if failed else ''}all promises kept")
    if not given.keep and not failed:
        shutil.rmtree(folder)
    elif failed:
        print(f"databases and logs are in {folder}")
    return int(failed or kills != given.kills)


if __name__ == "__main__":
    sys.exit(main())
