"""`python -m crash --kills 200`: kill Headrace's processes at random moments, and see that nothing is lost."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from crash.stage import adopt_orphans
from crash.suite import BrokenPromise, Suite, summary


def main() -> int:
    """Run the suite and print what was seen; 1 when something was lost."""
    options = argparse.ArgumentParser(prog="crash", description=__doc__)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, help="which moments (default: another each time; printed)")
    options.add_argument("--round", type=int, default=1, help="the first round, to see one again")
    chosen = options.parse_args()
    seed = chosen.seed if chosen.seed is not None else time.time_ns() % 1_000_000
    folder = Path(tempfile.mkdtemp(prefix="headrace-crash-"))
    print(f"{chosen.kills} kills, --seed {seed}", flush=True)
    began = time.monotonic()
    adopt_orphans()
    suite = Suite(folder, seed, lambda line: print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True))
    try:
        suite.prepare()
        suite.rounds(chosen.kills, chosen.round)
        suite.finish()
    except (AssertionError, BrokenPromise) as error:
        print(f"{type(error).__name__}: {error}\n(--seed {seed}; the state is kept in {folder})", file=sys.stderr)
        return 1
    finally:
        suite.stage.close()
    print(summary(suite.tally, time.monotonic() - began))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
