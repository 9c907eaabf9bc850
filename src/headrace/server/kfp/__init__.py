"""KFP's v2beta1 REST API, as `kfp.Client` and the `kfp` command line use it."""

from headrace.server.kfp.operations import PREFIX, operations
from headrace.server.kfp.problems import problem

__all__ = ["PREFIX", "operations", "problem"]
