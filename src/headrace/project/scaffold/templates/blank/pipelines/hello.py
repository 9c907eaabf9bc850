"""A first pipeline: ordinary KFP v2, so it runs here and on any Kubeflow."""

from kfp import dsl


@dsl.component
def greet(name: str) -> str:
    greeting = f"Hello, {name}!"
    print(greeting)
    return greeting


@dsl.component
def count(text: str) -> int:
    return len(text)


@dsl.pipeline(name="hello")
def hello(name: str = "world") -> int:
    return count(text=greet(name=name).output).output
