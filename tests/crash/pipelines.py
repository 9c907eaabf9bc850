"""Pipelines whose tasks keep a ledger: loops, retries, gates, nested groups, exit handlers, caches.

Every task that may be killed has retries left, so that a run ends the same way whatever is killed in it.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

from kfp import compiler, dsl

component = partial(dsl.component, base_image="python:3.12")
# More than a round has kills: a worker's death costs a retry, and no task may run out of them.
SPARE = 9
GATE = {"question": "Go on?"}


@component
def step(ledger: str, word: str, does: str = "") -> str:
    """Say a word. `does`: `fail` (always), `fail in the first try` (of its group), `flaky` (fails twice), `leave`."""
    import subprocess
    import time

    from crash.ledger import Working

    with Working(ledger) as work:
        if does == "leave":
            subprocess.Popen(["sleep", "600"])
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            # A daemon in the old way: its parent ends, so that nothing leads from it to the task.
            subprocess.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & exit 0"], check=True)
        time.sleep(0.03)
        planned = {
            "fail": True,
            "fail in the first try": "~" not in work.task,
            "flaky": work.failures() < 2,
        }
        if planned.get(does):
            raise ValueError(f"as planned: {word}")
    return word


@component
def write(ledger: str, word: str, data: dsl.Output[dsl.Dataset], tree: dsl.Output[dsl.Artifact], fresh: str = ""):
    """A file and a folder, written slowly enough to be torn."""
    import time
    from pathlib import Path

    from crash.ledger import Working

    with Working(ledger), Path(data.path).open("w") as stream:
        Path(tree.path).mkdir(parents=True)
        for number in range(12):
            stream.write(f"{word} {number}\n" * 4000)
            stream.flush()
            Path(tree.path, f"part-{number}").write_text(word * 500)
            time.sleep(0.006)
        data.metadata["parts"] = 12


@component
def read(ledger: str, data: dsl.Input[dsl.Dataset], tree: dsl.Input[dsl.Artifact], fresh: str = "") -> str:
    """The word of which the artifacts are full."""
    from pathlib import Path

    from crash.ledger import Working

    with Working(ledger):
        lines = Path(data.path).read_text().splitlines()
        word = lines[0].split()[0]
        parts = list(Path(tree.path).iterdir())
        if (len(lines), len(parts), data.metadata["parts"]) != (48000, 12, 12):
            raise ValueError("it is torn")
        if any(part.read_text() != word * 500 for part in parts):
            raise ValueError("a part is torn")
    return word


@component
def join(ledger: str, words: list[str]) -> str:
    from crash.ledger import Working

    with Working(ledger):
        return "+".join(words)


@dsl.container_component
def ask(decision: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="kfp://human-input", command=["wait"], args=[json.dumps(GATE)])


@dsl.pipeline
def loops(ledger: str, fresh: str) -> str:
    with dsl.ParallelFor(["a", "b", "c", "d"], parallelism=3) as word:
        made = write(ledger=ledger, word=word).set_retry(SPARE)
        again = read(ledger=ledger, data=made.outputs["data"], tree=made.outputs["tree"]).set_retry(SPARE)
        with dsl.If(word != "b"):
            step(ledger=ledger, word=again.output).set_retry(SPARE)
        with dsl.ParallelFor([1, 2]):
            step(ledger=ledger, word=word).set_retry(SPARE)
    return join(ledger=ledger, words=dsl.Collected(again.output)).set_retry(SPARE).output


@dsl.pipeline
def inner(ledger: str, word: str) -> str:
    first = step(ledger=ledger, word=word).set_retry(SPARE)
    return step(ledger=ledger, word=first.output, does="fail in the first try").set_retry(SPARE).output


@dsl.pipeline
def retries(ledger: str, fresh: str) -> str:
    flaky = step(ledger=ledger, word="flaky", does="flaky").set_retry(SPARE + 2)
    nested = inner(ledger=ledger, word=flaky.output).set_retry(2)
    left = step(ledger=ledger, word="leaves", does="leave").set_retry(SPARE)
    return step(ledger=ledger, word=nested.output).after(left).set_retry(SPARE).output


@dsl.pipeline
def gated(ledger: str, fresh: str) -> str:
    before = step(ledger=ledger, word="before").set_retry(SPARE)
    asked = ask().after(before)
    with dsl.ParallelFor(["x", "y"]) as word:
        step(ledger=ledger, word=word).after(asked).set_retry(SPARE)
    step(ledger=ledger, word="beside").set_retry(SPARE)
    return step(ledger=ledger, word=asked.outputs["decision"]).set_retry(SPARE).output


@dsl.pipeline
def exits(ledger: str, fresh: str):
    cleanup = step(ledger=ledger, word="cleans up").set_retry(SPARE)
    with dsl.ExitHandler(cleanup):
        first = step(ledger=ledger, word="first", does="leave").set_retry(SPARE)
        fails = step(ledger=ledger, word="fails", does="fail").after(first).set_retry(1)
        step(ledger=ledger, word="never").after(fails).set_retry(SPARE)
        sibling = write(ledger=ledger, word="sibling").set_retry(SPARE)
        read(ledger=ledger, data=sibling.outputs["data"], tree=sibling.outputs["tree"]).set_retry(SPARE)


@dsl.pipeline
def cached(ledger: str, fresh: str) -> str:
    made = write(ledger=ledger, word="kept").set_retry(SPARE)
    word = read(ledger=ledger, data=made.outputs["data"], tree=made.outputs["tree"]).set_retry(SPARE)
    new = write(ledger=ledger, word=word.output, fresh=fresh).set_retry(SPARE)
    outputs = new.outputs
    return read(ledger=ledger, data=outputs["data"], tree=outputs["tree"], fresh=fresh).set_retry(SPARE).output


PIPELINES = {pipeline.name: pipeline for pipeline in (loops, retries, gated, exits, cached)}
# Only this one may reuse what ran before; the others do all their work every time.
CACHING = ("cached",)


def documents() -> dict[str, str]:
    """The compiled text of each pipeline, by name."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, pipeline in PIPELINES.items():
            file = Path(folder, f"{name}.yaml")
            compiler.Compiler().compile(pipeline, str(file))
            found[name] = file.read_text(encoding="utf-8")
    return found
