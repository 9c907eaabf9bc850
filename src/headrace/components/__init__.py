"""Ready KFP components: validate, evaluate, approve, register, deploy.

    from headrace.components import validate, evaluate, approve, register, deploy

Ordinary `@dsl.component` functions, to be used in any KFP pipeline. What they use at run time they import inside.
"""

from importlib import import_module
from typing import Any

# Where an engine with containers runs them.
PYTHON_IMAGE = "python:3.12"

__all__ = ["approve", "deploy", "evaluate", "register", "validate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The names of modules and components are the same; the component is what is wanted.
    component = getattr(import_module(f"{__name__}.{name}"), name)
    globals()[name] = component
    return component
