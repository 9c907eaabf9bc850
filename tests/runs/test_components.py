from functools import partial

from kfp import dsl

from headrace.runs import components
from headrace.runs.prelude import Requirements

component = partial(dsl.component, base_image="python:3.12")


def _container(document, name):
    return document.executor_of(f"comp-{name}").container


@component(
    packages_to_install=["pandas>=2", "numpy ; python_version < '3'", "a[extra]==1.0", "b_c @ https://x/y.whl?z&k"],
    pip_index_urls=["https://index.example/simple", "https://more.example/simple"],
    pip_trusted_hosts=["index.example"],
)
def wanting() -> int:
    return 1


@component
def plain() -> int:
    return 1


@dsl.container_component
def shell():
    return dsl.ContainerSpec(image="alpine:3", command=["echo"], args=["hello"])


def test_the_packages_of_a_component_are_read_from_its_install_prelude(document):
    found = components.python_component(_container(document(wanting), "wanting"))
    assert found.function == "wanting"
    assert "def wanting() -> int" in found.code
    assert found.requirements == Requirements(
        packages=("pandas>=2", "numpy ; python_version < '3'", "a[extra]==1.0", "b_c @ https://x/y.whl?z&k"),
        index_urls=("https://index.example/simple", "https://more.example/simple"),
        trusted_hosts=("index.example",),
    )


def test_the_prelude_of_the_sdk_itself_wants_nothing(document):
    assert components.python_component(_container(document(plain), "plain")).requirements == Requirements()


def test_a_container_is_no_python_component(document):
    assert components.python_component(_container(document(shell), "shell")) is None


CODE = """
import os, sklearn.linear_model as lm
from pandas import DataFrame

def f():
    import numpy as np
    from mlflow.sklearn import log_model
    from . import sklearn
    from threading import Thread
"""


def test_only_libraries_that_are_safe_to_fork_are_imported_beforehand():
    found = components.PythonComponent(CODE, "f", Requirements())
    assert found.imports == ("mlflow.sklearn", "numpy", "pandas", "sklearn.linear_model")
    assert found.preload == (*found.imports, "pandas.io.parquet", "pyarrow.dataset", "pyarrow.parquet")
    assert {name.partition(".")[0] for name in found.imports} <= set(components.PRELOADABLE)


def test_code_with_a_fault_is_left_to_its_task_to_report():
    assert components.PythonComponent("def f(:\n", "f", Requirements()).imports == ()
