"""Any pipeline, any outcomes, any order: what must hold of every plan."""

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts import pipeline_spec
from headrace.runs.model import RunContext, State, TaskFact
from headrace.runs.planner import plan

CONTEXT = RunContext("run-1", "made", "made 1", "2026-01-01T00:00:00.000000Z", "/artifacts")
NUMBER = {"parameterType": "NUMBER_INTEGER"}


def _tasks(children):
    """Tasks of one group: each may wait for earlier ones, and may be taken only when an earlier leaf gave a 1."""
    task = st.fixed_dictionaries(
        {
            "node": children,
            "after": st.sets(st.integers(0, 3), max_size=2),
            "regardless": st.booleans(),
            "if": st.none() | st.integers(0, 3),
        }
    )
    return st.lists(task, min_size=1, max_size=4)


LEAF = st.just({"kind": "leaf"})
NODE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.builds(lambda tasks: {"kind": "group", "tasks": tasks}, _tasks(inner)),
        st.builds(
            lambda tasks, items, limit: {"kind": "loop", "tasks": tasks, "items": items, "limit": limit},
            _tasks(inner),
            st.integers(0, 3),
            st.integers(0, 2),
        ),
    ),
    max_leaves=8,
)
PIPELINES = _tasks(NODE)


class Made:
    """The document of a drawn pipeline, and what waits for what in it, by path."""

    def __init__(self, tasks):
        self.components = {}
        self.waits = {}
        self.limits = {}
        root = self._dag(tasks, [""])
        self.document = pipeline_spec.parse(
            json.dumps(
                {
                    "pipelineInfo": {"name": "made"},
                    "schemaVersion": "2.1.0",
                    "root": {"dag": root},
                    "components": self.components,
                    "deploymentSpec": {"executors": {"exec": {"container": {"image": "python"}}}},
                }
            ),
            "made.yaml",
        )

    def _dag(self, tasks, places):
        dag = {}
        for index, task in enumerate(tasks):
            made, name = self._task(task, index, tasks, places), f"t{index}"
            dag[name] = made
            producers = {*made["dependentTasks"]}
            if "inputs" in made:
                producers.add(made["inputs"]["parameters"]["flag"]["taskOutputParameter"]["producerTask"])
            for place in places:
                self.waits[place + name] = {place + producer for producer in producers}
        return {"tasks": dag}

    def _task(self, task, index, tasks, places):
        node, name = task["node"], f"comp-{len(self.components)}"
        made = {
            "taskInfo": {"name": f"t{index}"},
            "componentRef": {"name": name},
            "dependentTasks": [f"t{one}" for one in sorted(task["after"]) if one < index],
            "triggerPolicy": {},
        }
        component = self.components[name] = {"inputDefinitions": {"parameters": {}}}
        within = [f"{place}t{index}/" for place in places]
        if node["kind"] == "leaf":
            component |= {"executorLabel": "exec", "outputDefinitions": {"parameters": {"Output": NUMBER}}}
        if node["kind"] == "loop":
            made["parameterIterator"] = {"items": {"raw": json.dumps(list(range(node["items"])))}, "itemInput": "item"}
            made["iteratorPolicy"] = {"parallelismLimit": node["limit"]}
            self.limits |= {place: node["limit"] for place in within if node["limit"]}
            within = [f"{place}{number}/" for place in within for number in range(node["items"])]
        if node["kind"] != "leaf":
            component["dag"] = self._dag(node["tasks"], within)
        asked = task["if"]
        if asked is not None and asked < index and tasks[asked]["node"]["kind"] == "leaf":
            source = {"producerTask": f"t{asked}", "outputParameterKey": "Output"}
            made["inputs"] = {"parameters": {"flag": {"taskOutputParameter": source}}}
            component["inputDefinitions"]["parameters"]["flag"] = NUMBER
            made["triggerPolicy"]["condition"] = "int(inputs.parameter_values['flag']) == 1"
        elif task["regardless"]:
            made["triggerPolicy"]["strategy"] = "ALL_UPSTREAM_TASKS_COMPLETED"
        return made

    def plan(self, facts):
        return plan(self.document, {}, facts, CONTEXT)


def _outcome(path, seed, failing):
    source = random.Random(f"{seed} {path}")
    if failing and source.random() < 0.25:
        return TaskFact(State.FAILED, message=f"{path} broke")
    return TaskFact(State.SUCCEEDED, {"Output": source.choice([0, 1, 1])})


def _simulate(made, seed, order, *, failing=True, watch=lambda plan, facts: None):
    """Start and end one task after the other, in an order of chance, until nothing is left; facts and history."""
    facts, history, chance = {}, [], random.Random(order)
    while True:
        planned = made.plan(facts)
        watch(planned, facts)
        running = [path for path, fact in facts.items() if fact.state is State.RUNNING]
        ready = [task.path for task in planned.ready]
        assert not set(ready) & set(facts), "a task is ready that has started already"
        if not running and not ready:
            return planned, facts, history
        path = chance.choice(sorted(running) + sorted(ready))
        if path in facts:
            facts[path] = _outcome(path, seed, failing)
            history.append(("ended", path))
        else:
            facts[path] = TaskFact(State.RUNNING)
            history.append(("started", path))


RUNS = settings(deadline=None, max_examples=40)


@given(PIPELINES, st.integers(), st.integers())
@RUNS
def test_every_run_comes_to_an_end_and_failed_exactly_when_a_task_of_it_failed(tasks, seed, order):
    planned, facts, _ = _simulate(Made(tasks), seed, order)
    assert planned.root.final
    failed = any(fact.state is State.FAILED for fact in facts.values())
    assert planned.root.state is (State.FAILED if failed else State.SUCCEEDED)
    assert bool(planned.root.message) is failed


@given(PIPELINES, st.integers(), st.integers(), st.integers())
@RUNS
def test_the_order_in_which_tasks_end_changes_nothing(tasks, seed, one, other):
    made = Made(tasks)
    first, second = _simulate(made, seed, one), _simulate(made, seed, other)
    assert first[1] == second[1]
    assert first[0].root.state is second[0].root.state
    assert {p: g.state for p, g in first[0].groups.items()} == {p: g.state for p, g in second[0].groups.items()}


@given(PIPELINES, st.integers(), st.integers())
@RUNS
def test_nothing_starts_before_all_that_it_waits_for_has_ended(tasks, seed, order):
    made = Made(tasks)
    _, _, history = _simulate(made, seed, order)
    at = {step: number for number, step in enumerate(history)}
    for (what, path), number in at.items():
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            for needed in made.waits.get("/".join(parts[:depth]), ()):
                before = [n for (_, p), n in at.items() if p == needed or p.startswith(f"{needed}/")]
                assert what == "ended" or all(n < number for n in before), f"{path} did not wait for {needed}"


@given(PIPELINES, st.integers(), st.integers())
@RUNS
def test_a_loop_never_has_more_open_iterations_than_its_limit(tasks, seed, order):
    made = Made(tasks)

    def watch(planned, facts):
        for loop, limit in made.limits.items():
            begun = {loop + path.removeprefix(loop).split("/")[0] for path in facts if path.startswith(loop)}
            assert sum(not planned.groups[one].final for one in begun) <= limit

    _simulate(made, seed, order, watch=watch)


@given(PIPELINES, st.integers(), st.integers())
@RUNS
def test_what_waits_for_nothing_starts_whatever_else_fails(tasks, seed, order):
    made = Made(tasks)
    _, facts, _ = _simulate(made, seed, order)
    _, all_facts, _ = _simulate(made, seed, order, failing=False)
    assert {path for path in all_facts if not _waits(path, made)} <= set(facts)


def _waits(path, made):
    parts = path.split("/")
    return any(made.waits.get("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))
