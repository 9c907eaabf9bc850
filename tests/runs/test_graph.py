import pytest

from headrace.project.compile import compile_pipeline
from headrace.runs import graph as graphs
from headrace.runs.packages import spec_json

PIPELINE = """
from kfp import dsl

@dsl.component
def months() -> list[int]:
    return [1, 2]


@dsl.component
def look(month: int) -> bool:
    return True


@dsl.component
def train(good: bool):
    pass


@dsl.pipeline
def pipeline():
    listed = months()
    with dsl.ParallelFor(listed.output, name="month") as month:
        seen = look(month=month)
        with dsl.If(seen.output == True, name="good"):
            train(good=seen.output)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    file = tmp_path_factory.mktemp("graph") / "pipeline.py"
    file.write_text(PIPELINE)
    spec = spec_json(compile_pipeline(file))
    return lambda tasks=(): graphs.graph(spec, tasks)


def task(path, state, cached=0):
    return {"path": path, "state": state, "cached": cached}


def test_a_graph_has_groups_inside_groups_each_behind_what_it_needs(root):
    found = [(depth, node.label, node.kind, node.needs) for depth, node in root().walk()]
    assert found == [
        (0, "months", "task", ()),
        (0, "month", "loop", ("months",)),
        (1, "look", "task", ()),
        (1, "good", "condition", ("for-loop-1/look",)),
        (2, "train", "task", ()),
    ]


def test_iterations_are_folded_into_one_node_with_the_loudest_state(root):
    tasks = [
        task("months", "SUCCEEDED", 1),
        task("for-loop-1/0/look", "SUCCEEDED"),
        task("for-loop-1/1/look", "RUNNING"),
        task("for-loop-1/0/condition-2/train", "FAILED"),
    ]
    states = {node.label: (node.state, dict(node.states), node.cached) for _, node in root(tasks).walk()}
    assert states == {
        "months": ("SUCCEEDED", {"SUCCEEDED": 1}, 1),
        "month": ("FAILED", {"SUCCEEDED": 1, "RUNNING": 1, "FAILED": 1}, 0),
        "look": ("RUNNING", {"SUCCEEDED": 1, "RUNNING": 1}, 0),
        "good": ("FAILED", {"FAILED": 1}, 0),
        "train": ("FAILED", {"FAILED": 1}, 0),
    }


def test_a_path_without_iterations():
    assert graphs.folded("for-loop-1/12/condition-2/train") == "for-loop-1/condition-2/train"
