"""Every attempt of a task is given the same folder for its checkpoints."""

from functools import partial
from pathlib import Path

import pytest
from kfp import dsl

component = partial(dsl.component, base_image="python:3.12")


@component
def train(epochs: int, model: dsl.Output[dsl.Model], keep: bool = False) -> list:
    """Do one epoch an attempt and then die, until there are enough; tells which attempt did which."""
    import os
    import signal
    from pathlib import Path

    folder = Path(os.environ["HEADRACE_CHECKPOINT_DIR"])
    done = sorted(folder.iterdir())
    attempt = Path.cwd().parent.name
    if len(done) < epochs:
        (folder / f"epoch-{len(done)}").write_text(attempt)
        os.kill(os.getpid(), signal.SIGKILL)
    if keep:
        model.path = str(folder / "epoch-0")
    else:
        Path(model.path).write_text("trained")
    return [epoch.read_text() for epoch in done]


@dsl.pipeline
def training(keep: bool = False) -> list:
    trained = train(epochs=2, keep=keep).set_retry(3)
    train(epochs=0)
    return trained.outputs["Output"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_retry_goes_on_where_the_last_attempt_was(run, home, keep):
    result = run(training, keep=keep)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": ["1", "2"]}), result.error
    assert result.tasks["train"]["attempt"] == 3
    left = sorted(Path(folder).name for folder in home.artifacts.glob("*/*/checkpoints/*"))
    # A success has no use for them, unless what came out lies among them.
    assert left == (["epoch-0", "epoch-1"] if keep else [])
