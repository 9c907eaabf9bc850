"""The command line of a container component: what stands in the document, and what a program is given."""

import json

import pytest
from kfp import dsl

from headrace.runs.placeholders import command_line, replaced

TABLE = {
    "name": "table", "uri": "/data/it's \"the\" table.csv", "metadata": {"rows": 3, "note": 'say "no"', "who": "Ann's"},
    "type": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"},
}  # fmt: skip
REMOTE = {"name": "model", "uri": "s3://bucket/a model", "metadata": {}}
GIVEN = {
    "inputs": {
        "parameterValues": {
            "text": "it's \"so\" $HOME\n", "n": 3, "x": 2.0, "yes": True, "list": [1, {"a": None}], "dict": {"k": "v"},
            "null": None, "empty": "", "zero": 0, "sneaky": "{{$.inputs.parameters['text']}}", "a-b--c": "dashes",
        },
        "artifacts": {
            "table": {"artifacts": [TABLE]}, "model": {"artifacts": [REMOTE]}, "files": {"artifacts": [TABLE, REMOTE]},
            "none": {"artifacts": []},
        },
    },
    "outputs": {
        "parameters": {"score": {"outputFile": "/task/parameters/score"}},
        "artifacts": {"plot": {"artifacts": [{"name": "plot", "uri": "/task/plot", "metadata": {}}]}},
        "outputFile": "/task/executor_output.json",
    },
}  # fmt: skip
JOB = {"{{$.pipeline_job_name}}": 'a "job"', "{{$.workspace_path}}": "/work"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain {$} {{}} $(A) {{$.", "plain {$} {{}} $(A) {{$."),
        ("{{$.inputs.parameters['text']}}", 'it\'s "so" $HOME\n'),
        ('{{$.inputs.parameters["text"]}}', 'it\'s "so" $HOME\n'),
        ("<{{$.inputs.parameters['n']}}|{{$.inputs.parameters['x']}}>", "<3|2.0>"),
        ("{{$.inputs.parameters['yes']}}", "true"),
        ("{{$.inputs.parameters['list']}}", '[1,{"a":null}]'),
        ("{{$.inputs.parameters['dict']}}", '{"k":"v"}'),
        ("a{{$.inputs.parameters['null']}}b{{$.inputs.parameters['unknown']}}c", "abc"),
        ("{{$.inputs.parameters['zero']}}", "0"),
        ("{{$.inputs.parameters['a-b--c']}}", "dashes"),
        ("{{$.inputs.parameters['sneaky']}}", "{{$.inputs.parameters['text']}}"),
        ("{{$.inputs.artifacts['table'].uri}}", TABLE["uri"]),
        ("{{$.inputs.artifacts['table'].path}}", TABLE["uri"]),
        ("{{$.inputs.artifacts['table'].name}}", "table"),
        ("{{$.inputs.artifacts['table'].metadata['rows']}}", "3"),
        ("{{$.inputs.artifacts['table'].metadata['note']}}", 'say "no"'),
        ("{{$.inputs.artifacts['table'].metadata['unknown']}}", ""),
        ("{{$.inputs.artifacts['model'].uri}}", "s3://bucket/a model"),
        ("{{$.inputs.artifacts['model'].path}}", "/s3/bucket/a model"),
        ("{{$.inputs.artifacts['files'].path}}", TABLE["uri"]),
        ("[{{$.inputs.artifacts['none'].uri}}{{$.inputs.artifacts['unknown'].path}}]", "[]"),
        ("{{$.outputs.parameters['score'].output_file}}", "/task/parameters/score"),
        ("{{$.outputs.artifacts['plot'].uri}}", "/task/plot"),
        ("--plot={{$.outputs.artifacts['plot'].path}}", "--plot=/task/plot"),
        ("{{$.outputs.artifacts['plot'].metadata}}", "{}"),
        ("{{$.outputs.output_file}}", "/task/executor_output.json"),
        ("{{$.pipeline_job_name}} in {{$.workspace_path}}/a", 'a "job" in /work/a'),
        ("{{$.unknown}} {{$.inputs.nothing['a']}}", "{{$.unknown}} {{$.inputs.nothing['a']}}"),
    ],
)
def test_a_placeholder_becomes_what_it_stands_for(text, wanted):
    assert replaced(text, GIVEN, JOB) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{{$}}", GIVEN),
        ("{{$.inputs.artifacts['table'].metadata}}", TABLE["metadata"]),
        ("{{$.inputs.artifacts['table']}}", [TABLE]),
        ("{{$.inputs.artifacts['files']}}", [TABLE, REMOTE]),
        ("{{$.inputs.artifacts['none']}}", []),
        ("{{$.outputs.artifacts['plot']}}", [{"name": "plot", "uri": "/task/plot", "metadata": {}}]),
    ],
)
def test_what_is_more_than_a_text_is_given_as_json(text, wanted):
    assert json.loads(replaced(text, GIVEN, JOB)) == wanted


def words(*nodes):
    """The command line of words that are text, or JSON as the SDK writes IfPresent and Concat."""
    return command_line([node if isinstance(node, str) else json.dumps(node) for node in nodes], GIVEN, JOB)


def if_present(name, then, *otherwise):
    choice = {"InputName": name, "Then": then}
    return {"IfPresent": {**choice, "Else": otherwise[0]} if otherwise else choice}


def concat(*items):
    return {"Concat": list(items)}


TEXT = "{{$.inputs.parameters['text']}}"
N = "{{$.inputs.parameters['n']}}"


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (if_present("n", "yes", "no"), ["yes"]),
        (if_present("unknown", "yes", "no"), ["no"]),
        (if_present("unknown", "yes"), []),
        (if_present("n", ["--n", N], ["--none"]), ["--n", "3"]),
        (if_present("null", ["--n", N], ["--none", N]), ["--none", "3"]),
        (if_present("zero", "given"), ["given"]),
        (if_present("empty", "given"), ["given"]),
        (if_present("table", ["--table", "{{$.inputs.artifacts['table'].path}}"]), ["--table", TABLE["uri"]]),
        (if_present("none", "given", "not given"), ["not given"]),
        (if_present("n", []), []),
        (concat("a=", TEXT, "|", N), ["a=it's \"so\" $HOME\n|3"]),
        (concat(), [""]),
        (concat("a", if_present("unknown", "b"), concat("c", if_present("n", "d", "e"))), ["acd"]),
        (if_present("n", concat("--n=", N), "none"), ["--n=3"]),
        (if_present("n", ["x", concat("y", N), if_present("unknown", "z", ["v", "w"])]), ["x", "y3", "v", "w"]),
        (if_present("unknown", "a", if_present("n", if_present("empty", ["deep", N]))), ["deep", "3"]),
        (concat("{{$.pipeline_job_name}}"), ['a "job"']),
    ],
)  # fmt: skip
def test_if_present_and_concat_give_several_words_one_or_none(node, wanted):
    assert words("first", node, "last") == ["first", *wanted, "last"]


@pytest.mark.parametrize("text", ['{"IfPresent"', '{"Concat": [', "{'Concat': ['a']}", '{"other": 1}', "[]", ""])
def test_what_only_looks_like_them_is_a_word(text):
    assert words(text) == [text]


@dsl.container_component
def everything(
    text: str, files: dsl.Input[list[dsl.Dataset]], table: dsl.Input[dsl.Dataset], nobody: str = "", n: int = 1
):  # fmt: skip
    return dsl.ContainerSpec(
        image="alpine:3",
        command=["run", dsl.ConcatPlaceholder(["--text=", text, ";", dsl.IfPresentPlaceholder("n", n, "no n")])],
        args=[
            dsl.IfPresentPlaceholder("table", [table.path, dsl.ConcatPlaceholder(["rows=", table.metadata["rows"]])]),
            dsl.IfPresentPlaceholder("nobody", ["--nobody"]),
            files,
            f"<{dsl.PIPELINE_JOB_NAME_PLACEHOLDER}>",
        ],
    )  # fmt: skip


def test_what_the_sdk_writes_is_read(document):
    container = document(everything).executor_of("comp-everything").container
    *told, files, job = command_line([*container.command, *container.args], GIVEN, JOB)
    assert told == ["run", '--text=it\'s "so" $HOME\n;3', TABLE["uri"], "rows=3"]
    assert json.loads(files) == [TABLE, REMOTE]
    assert job == '<a "job">'
