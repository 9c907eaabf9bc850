"""Dagster: BENCH_ISOLATED=1 runs each op in a process of its own, as `dagster job execute` does by default."""

import os

import timed
from dagster import DagsterInstance, DynamicOut, DynamicOutput, Out, execute_job, job, op, reconstructable


@op
def zero() -> int:
    return 0


@op
def step(x: int) -> int:
    timed.stamp()
    return x + 1


@op
def first() -> int:
    timed.stamp()
    return 1


@op(out=DynamicOut(int))
def items():
    for n in range(int(os.environ["BENCH_WIDE"])):
        yield DynamicOutput(n, mapping_key=str(n))


@op
def total(values: list[int]) -> int:
    return sum(values)


@op(out=Out())
def first_frame():
    return timed.frame()


@op(out=Out())
def pass_on(frame):
    return frame.copy()


@job
def chain():
    x = first()
    for _ in range(9):
        x = step(x)


@job
def wide():
    total(items().map(step).collect())


@job
def frames():
    frame = first_frame()
    for _ in range(10):
        frame = pass_on(frame)


def run(named):
    with DagsterInstance.get() as instance:
        if os.environ.get("BENCH_ISOLATED"):
            done = execute_job(reconstructable(named), instance=instance)
        else:
            done = named.execute_in_process(instance=instance)
        assert done.success


def run_wide(n):
    os.environ["BENCH_WIDE"] = str(n)
    run(wide)


if __name__ == "__main__":
    timed.main({"chain": lambda n: run(chain), "wide": run_wide, "frame": lambda n: run(frames)})
