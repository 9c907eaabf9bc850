"""`python -m faults`: six faults by four strategies under live traffic. Exit code 1 when one is not found, is blamed on
the wrong revision, is taken back late, or costs a request of the stable revision."""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faults import models, strategies
from faults.traffic import Traffic
from load.stage import API, Stage

# From the first live request until it is Degraded and the new revision gets none. Labels come later than answers.
SECONDS = {"wrong labels": 60.0}
HTTP_SECONDS = 30.0
USUAL_SECONDS = 4.0
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Cell:
    """What became of one fault under one strategy."""

    fault: str
    strategy: str
    found_by: str
    message: str
    seconds: float
    failed_on_new: int
    failed_on_stable: int
    broken: tuple


class Service:
    """One service under load, to which models with faults are deployed one after the other."""

    def __init__(self, stage, strategy, rate):
        self.stage, self.strategy = stage, strategy
        labels = f"http://127.0.0.1:{stage.ports['--port']}{API}/labels"
        self.load = Traffic(stage.gateway, labels, strategy, rate)

    def play(self, faults):
        """A cell for each fault."""
        with self.load:
            return [self.cell(fault) for fault in faults]

    def cell(self, fault):
        stage, begin = self.stage, time.time()
        self.load.await_more(int(USUAL_SECONDS * self.load.rate))
        rollout = stage.command("deploy", self.strategy.service, "--model", str(stage.models[fault]))["id"]
        mirrored_at, told = None, None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            told = stage.rollout(rollout)
            if told and told["mirrored"] and mirrored_at is None:
                mirrored_at = time.time()
            if told and told["state"] in ("Degraded", "Aborted"):
                break
            time.sleep(0.05)
        ended = time.time()
        new, stable = told["to"]["id"], told["from"]["id"]
        came_back = self._comes_back(stable, deadline)
        cell = self._told(fault, begin, new, told["message"], mirrored_at, ended)
        limit = SECONDS.get(fault, HTTP_SECONDS)
        verified = stage.command("rollouts", "verify", rollout)
        checks = {
            f"it is {told['state']}: {told['message']}": told["state"] == "Degraded",
            f"{told['message']!r} does not begin with {self.strategy.found_by(fault)!r}": told["message"].startswith(
                self.strategy.found_by(fault)
            ),
            f"{stable} does not serve again": came_back,
            f"it took {cell.seconds:.1f} s, and {limit:g} may pass": cell.seconds <= limit,
            f"{cell.failed_on_stable} requests failed on the stable revision": cell.failed_on_stable == 0,
            "a verdict cannot be computed again": all(one["same"] for one in verified),
        }
        broken = tuple(problem for problem, holds in checks.items() if not holds)
        cell = Cell(**{**vars(cell), "broken": broken})
        print(_line(cell), flush=True)
        return cell

    def _comes_back(self, stable, deadline):
        """Whether the stable revision answers everybody again."""
        while time.monotonic() < deadline:
            now = time.time()
            self.load.await_more(50)
            since = self.load.between(now, time.time())
            if since and all(one.revision == stable and not one.failed for one in since):
                return True
        return False

    def _told(self, fault, begin, new, message, mirrored_at, ended):
        sent = [one for one in list(self.load.sent) if one.at >= begin]
        live = [one for one in sent if one.revision == new]
        if live:
            seconds = max(ended, *(one.at for one in live)) - min(one.at for one in live)
        else:
            seconds = ended - mirrored_at if mirrored_at else float("inf")
        failed = [one for one in sent if one.failed]
        on_new = [one for one in failed if one.revision == new]
        word = message.partition(":")[0] if ":" in message else message
        found_by = "the server died" if "died" in message else word
        return Cell(
            fault, self.strategy.name, found_by, message, seconds, len(on_new), len(failed) - len(on_new), ()
        )  # fmt: skip


def _line(cell):
    return (
        f"| {cell.fault} | {cell.strategy} | {cell.found_by} | {cell.seconds:.1f} s | {cell.failed_on_new} |"
        f" {cell.failed_on_stable} |{' BROKEN: ' + '; '.join(cell.broken) if cell.broken else ''}"
    )


def main():
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second to each service")
    parser.add_argument("--only", default="", help="strategies, with commas between them")
    parser.add_argument("--faults", default="", help="faults, with commas between them")
    options = parser.parse_args()
    chosen = [one for one in strategies.STRATEGIES if not options.only or one.name in options.only.split(",")]
    faults = [one for one in models.FAULTS if not options.faults or one in options.faults.split(",")]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), strategies.files(), models.save)
        try:
            stage.up()
            for one in chosen:
                first = stage.command("deploy", one.service, "--model", str(stage.models["none"]))["id"]
                stage.until(first, "Healthy")
                stage.wait(lambda service=one.service: stage.serves(service))
            print(f"{options.rate:g} requests a second to each of {len(chosen)} services:\n", flush=True)
            print("| fault | strategy | found by | taken back after | failed on the new | failed on the stable |")
            print("|---|---|---|---:|---:|---:|", flush=True)
            with ThreadPoolExecutor(len(chosen)) as pool:
                services = [Service(stage, one, options.rate) for one in chosen]
                cells = [cell for played in pool.map(lambda one: one.play(faults), services) for cell in played]
        finally:
            stage.close()
    broken = [cell for cell in cells if cell.broken]
    print(f"\n{len(cells)} faults, {len(broken)} not as they should be; {time.monotonic() - began:.0f} s")
    return 1 if broken or not cells else 0


if __name__ == "__main__":
    sys.exit(main())
