import re
from functools import partial

import pytest
from kfp import dsl

import headrace
from headrace.errors import UnsupportedError
from headrace.runs.executors import container
from headrace.runs.gaps import gaps

component = partial(dsl.component, base_image="python:3.12")


@component(packages_to_install=[f"headrace=={headrace.__version__}", "pandas>=2", "no-such ; python_version < '3'"])
def content() -> int:
    return 1


@component(packages_to_install=["pandas>=99"])
def elsewhere() -> int:
    return 1


@dsl.container_component
def shell():
    return dsl.ContainerSpec(image="alpine:3", command=["echo"], args=["hello"])


@dsl.container_component
def nowhere():
    return dsl.ContainerSpec(image="alpine:3", command=["no-such-program"], args=["hello"])


@dsl.container_component
def own_entry_point():
    return dsl.ContainerSpec(image="alpine:3")


@dsl.pipeline
def several():
    content()
    shell()
    own_entry_point()


@dsl.pipeline
def hungry():
    content().set_memory_limit("900T").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(2)


@pytest.fixture
def without_engine(monkeypatch):
    monkeypatch.setattr(container, "find", lambda: None)


@pytest.fixture
def with_engine(monkeypatch):
    monkeypatch.setenv(container.VARIABLE, "true run")


@pytest.mark.parametrize(
    ("wanted", "problem", "remedy"),
    [
        (shell, "component shell runs the container image alpine:3, and neither docker nor podman is here",
         "Install one of them, or: Write it as a lightweight Python component"),
        (several, r"component own-entry-point .* \(and 1 more\)", "--run-on-host"),
        (hungry, r"component content needs [\d.]+ GB of memory, and this",
         "Ask for less"),
    ],
)  # fmt: skip
def test_what_cannot_run_here_is_refused_first(runner, compiled, without_engine, wanted, problem, remedy):
    with pytest.raises(UnsupportedError, match=problem) as raised:
        runner.create(compiled(wanted))
    assert re.search(re.escape(remedy), raised.value.remedy)
    assert raised.value.where == "test.yaml"
    assert runner.database.query("SELECT id FROM run") == []


@pytest.mark.parametrize("wanted", [content, elsewhere])
def test_packages_are_no_gap(document, wanted):
    assert gaps(document(wanted)) == []


def test_an_image_is_no_gap_where_there_is_a_container_engine(document, with_engine):
    assert gaps(document(several)) == []


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (nowhere, "component nowhere needs the container image alpine:3: its command no-such-program does not exist"),
        (own_entry_point, "its command is the image's own entry point"),
    ],
)
def test_on_the_host_a_command_has_to_be_there(document, wanted, problem):
    (gap,) = gaps(document(wanted), run_on_host=True)
    assert gap.fatal
    assert problem in str(gap)


def test_on_the_host_a_command_that_is_there_is_no_gap(document):
    assert gaps(document(shell), run_on_host=True) == []


def test_what_only_steers_a_cluster_is_told_and_not_refused(document):
    told = [(gap.fatal, str(gap)) for gap in gaps(document(hungry)) if not gap.fatal]
    assert told == [(False, "component content asks for accelerators (2 x nvidia.com/gpu)")]
