"""Flyte 2, local mode: tasks run in the process that asks for them."""

import asyncio

import flyte
import pandas
import timed

env = flyte.TaskEnvironment(name="bench")
cached_env = flyte.TaskEnvironment(name="cached", cache="auto")


@env.task
async def step(x: int) -> int:
    timed.stamp()
    return x + 1


@cached_env.task
async def cached_step(x: int) -> int:
    return x + 1


@env.task
async def total(values: list[int]) -> int:
    return sum(values)


@env.task
async def pass_on(frame: pandas.DataFrame) -> pandas.DataFrame:
    return frame.copy()


@env.task
async def chain() -> int:
    x = 0
    for _ in range(10):
        x = await step(x)
    return x


@env.task
async def cached() -> int:
    x = 0
    for _ in range(10):
        x = await cached_step(x)
    return x


@env.task
async def wide(n: int) -> int:
    return await total(list(await asyncio.gather(*(step(x) for x in range(n)))))


@env.task
async def frames() -> int:
    frame = timed.frame()
    for _ in range(10):
        frame = await pass_on(frame)
    return len(frame)


def run(task, **inputs):
    flyte.with_runcontext(mode="local").run(task, **inputs).wait()


if __name__ == "__main__":
    flyte.init()
    timed.main(
        {
            "chain": lambda n: run(chain),
            "cached": lambda n: run(cached),
            "wide": lambda n: run(wide, n=n),
            "frame": lambda n: run(frames),
        }
    )
