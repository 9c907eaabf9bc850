"""The KFP pipelines that Headrace and kfp.local both run."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output


@dsl.component(install_kfp_package=False)
def step(x: int) -> int:
    """Next to nothing: note the time, add one."""
    import os
    import time

    with open(os.environ["BENCH_STAMPS"], "a") as stream:
        stream.write(f"{time.time():.6f}\n")
    return x + 1


@dsl.component(install_kfp_package=False)
def total(values: list) -> int:
    """kfp.local gives the integers of a list as floats, and refuses a float that is returned for an integer."""
    return int(sum(values))


@dsl.component(install_kfp_package=False)
def first_frame(out: Output[Dataset]):
    import numpy
    import pandas

    rows = 250_000
    random = numpy.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "time": pandas.Timestamp("2026-01-01") + pandas.to_timedelta(numpy.arange(rows), unit="s"),
            "a": random.normal(size=rows),
            "b": random.normal(size=rows),
            "c": random.integers(0, 1000, size=rows),
            "d": random.integers(0, 1000, size=rows),
        }
    )
    frame.to_parquet(out.path)


@dsl.component(install_kfp_package=False)
def pass_on(data: Input[Dataset], out: Output[Dataset]):
    import os
    import time

    import pandas

    start = time.perf_counter()
    frame = pandas.read_parquet(data.path)
    frame.to_parquet(out.path)
    if "BENCH_FILES" in os.environ:
        with open(os.environ["BENCH_FILES"], "a") as seconds:
            seconds.write(f"{time.perf_counter() - start}\n")


@dsl.pipeline
def chain(start: int = 0) -> int:
    task = step(x=start)
    for _ in range(9):
        task = step(x=task.output)
    return task.output


@dsl.pipeline
def wide(items: list) -> int:
    with dsl.ParallelFor(items) as item:
        task = step(x=item)
    return total(values=dsl.Collected(task.output)).output


@dsl.pipeline
def frames() -> Dataset:
    task = first_frame()
    for _ in range(10):
        task = pass_on(data=task.outputs["out"])
    return task.outputs["out"]
