def test_nothing_has_a_lineage_where_nothing_has_run(headrace):
    assert headrace("lineage").stdout == "Nothing has run here yet.\n"
    assert headrace.json("lineage") == []
    headrace.refused("lineage", "run:none", says=["no run has the id none", "headrace runs list"])
    headrace.refused("lineage", "flights", says=["'flights' names no start", "model:NAME@VERSION"])


PIPELINE = """
from kfp import dsl

@dsl.component
def double(number: int) -> int:
    return number * 2

@dsl.component
def write(number: int, data: dsl.Output[dsl.Dataset]):
    with open(data.path, "w") as stream:
        stream.write(str(number))

@dsl.component
def read(data: dsl.Input[dsl.Dataset]) -> str:
    return open(data.path).read()

@dsl.pipeline(name="doubles")
def doubles(number: int):
    read(data=write(number=double(number=number).output).outputs["data"])
"""


def test_a_lineage_is_a_tree_or_json(headrace):
    headrace.write(p__py=PIPELINE)
    run = headrace.json("run", "p.py:doubles", "-p", "number=2")["run_id"]
    told = headrace.json("lineage", f"task:{run}/read")
    assert [node["kind"] for node in told["nodes"]] == ["task", "artifact", "task", "run"]
    tree = headrace("lineage", f"run:{run}", "--direction", "down").stdout
    assert f"run p {run}" in tree
    assert "    artifact data (output data)" in tree
    assert "      task read (input data)" in tree
