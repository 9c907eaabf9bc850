"""kfp.local: each task is a new process. BENCH_PIP=1: with the installation step that components have by default."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import pipelines
import timed
from kfp import dsl, local
from kfp.local import SubprocessRunner


def with_installation():
    """The same step as kfp compiles it by default: the SDK is installed before the component runs."""
    pipelines.step = dsl.component(pipelines.step.python_func)
    return dsl.pipeline(pipelines.chain.pipeline_func)


chain = with_installation() if os.environ.get("BENCH_PIP") else pipelines.chain

if __name__ == "__main__":
    local.init(runner=SubprocessRunner(use_venv=False), enable_caching="cached" in sys.argv)
    timed.main(
        {
            "chain": lambda n: chain(),
            "cached": lambda n: chain(start=7),
            "wide": lambda n: pipelines.wide(items=list(range(n))),
            "frame": lambda n: pipelines.frames(),
        }
    )
