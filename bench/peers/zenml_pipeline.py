"""ZenML on its default local stack: steps run in the process that asks for them."""

import pandas as pd
import timed
from zenml import pipeline, step


@step(enable_cache=False)
def add(x: int) -> int:
    timed.stamp()
    return x + 1


@step(enable_cache=True)
def cached_add(x: int) -> int:
    return x + 1


@step(enable_cache=False)
def first_frame() -> pd.DataFrame:
    return timed.frame()


@step(enable_cache=False)
def pass_on(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.copy()


@pipeline
def chain():
    x = 0
    for _ in range(10):
        x = add(x)


@pipeline(enable_cache=True)
def cached():
    x = 0
    for _ in range(10):
        x = cached_add(x)


@pipeline(enable_cache=False)
def wide(n: int):
    for x in range(n):
        add(x)


@pipeline(enable_cache=False)
def frames():
    frame = first_frame()
    for _ in range(10):
        frame = pass_on(frame)


if __name__ == "__main__":
    timed.main({"chain": lambda n: chain(), "cached": lambda n: cached(), "wide": wide, "frame": lambda n: frames()})
