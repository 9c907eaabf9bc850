"""Prefect: tasks run in the flow's process, the server that records them is started with it."""

import timed
from prefect import flow, task
from prefect.cache_policies import INPUTS


@task
def step(x: int) -> int:
    timed.stamp()
    return x + 1


@task
def total(values: list[int]) -> int:
    return sum(values)


@task(cache_policy=INPUTS, persist_result=True)
def cached_step(x: int) -> int:
    return x + 1


@task(persist_result=True)
def pass_on(frame):
    return frame.copy()


@flow
def chain():
    x = 0
    for _ in range(10):
        x = step(x)
    return x


@flow
def cached():
    x = 0
    for _ in range(10):
        x = cached_step(x)
    return x


@flow
def wide(n: int):
    return total(step.map(range(n)))


@flow(validate_parameters=False)
def frames():
    frame = timed.frame()
    for _ in range(10):
        frame = pass_on(frame)


if __name__ == "__main__":
    timed.main({"chain": lambda n: chain(), "cached": lambda n: cached(), "wide": wide, "frame": lambda n: frames()})
