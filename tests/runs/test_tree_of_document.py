import pytest

from headrace.contracts import pipeline_spec
from headrace.project.compile import compile_pipeline
from headrace.runs.tree import tree_of_document

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
    with dsl.ParallelFor([1, 2, 3]) as number:
        look(month=number)
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    file = tmp_path_factory.mktemp("tree") / "pipeline.py"
    file.write_text(PIPELINE)
    return pipeline_spec.parse(compile_pipeline(file), "pipeline.yaml")


def test_a_pipeline_that_does_not_run_has_groups_and_loops_and_no_states(document):
    nodes = {node.path: node for node in tree_of_document(document)}
    assert {(node.name, node.kind, node.total) for node in nodes.values()} == {
        ("months", "task", 0), ("month", "loop", 0), ("for-loop-4", "loop", 3),
    }  # fmt: skip
    assert nodes["for-loop-1"].needs == ("months",)
    assert {node.state for node in nodes.values()} == {""}


def test_what_a_loop_repeats_is_there_once(document):
    nodes = tree_of_document(document, {"for-loop-1", "for-loop-1/condition-2"})
    inside = [(node.path, node.name, node.depth) for node in nodes if node.parent]
    assert inside == [
        ("for-loop-1/look", "look", 1),
        ("for-loop-1/condition-2", "good", 1),
        ("for-loop-1/condition-2/train", "train", 2),
    ]
