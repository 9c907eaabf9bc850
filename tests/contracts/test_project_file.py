import pytest

from headrace.contracts.project_file import PipelineEntry, Reference, ServiceEntry, parse
from headrace.errors import DocumentError

GOOD = """
[project]
name = "flights"

[pipelines.retrain]
source = "pipelines/retrain.py:retrain"
triggers = ["push:data/**", "push:pipelines/**"]

[pipelines.retrain.parameters]
threshold = 0.7
months = { glob = "data/*.parquet" }
commit = { git = "commit" }

[services.delay]
manifest = "serving/delay.yaml"
rollout = "serving/rollout.yaml"

[environments.dev]
engine = "embedded"
"""


def test_a_whole_project():
    project = parse(GOOD, "headrace.toml")
    assert project.name == "flights"
    assert project.pipelines["retrain"] == PipelineEntry(
        "retrain",
        "pipelines/retrain.py:retrain",
        push=("data/**", "pipelines/**"),
        parameters={
            "threshold": 0.7,
            "months": Reference("glob", "data/*.parquet"),
            "commit": Reference("git", "commit"),
        },
    )
    assert project.services["delay"] == ServiceEntry("delay", "serving/delay.yaml", "serving/rollout.yaml")
    assert project.environments["dev"].engine == "embedded"


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "remedy"),
    [
        ('source = "p', 'sorce = "p', 6, "pipelines.retrain.sorce: is not a key", 'Did you mean "source"?'),
        ("[services.delay]", "[service.delay]", 14, "service: is not a key", 'Did you mean "services"?'),
        ('engine = "embedded"', 'engine = "spark"', 19, 'no engine is called "spark"', "embedded, kubeflow"),
        ('"push:data/**"', '"pull:data/**"', 7, '"pull:data/**" is no trigger', "push:"),
        ('{ git = "commit" }', '{ git = "branch" }', 12, "commit: { git = … } has a wrong value", "commit"),
        ('name = "flights"', "name = 3", 3, "project.name: must be a string", 'name = "…"'),
        ('manifest = "serving/delay.yaml"', "", 14, "services.delay.manifest: is missing", "Add manifest"),
        ("threshold = 0.7", "threshold = ", 10, "not valid TOML", "toml.io"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_remedy(old, new, line, message, remedy):
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(DocumentError) as caught:
        parse(text, "headrace.toml")
    assert caught.value.line == line
    assert message in str(caught.value)
    assert remedy in caught.value.remedy
    assert caught.value.exit_code == 2


def test_a_file_without_a_project_table():
    with pytest.raises(DocumentError, match=r"headrace\.toml: the table \[project\] is missing"):
        parse("", "headrace.toml")
