"""Airflow: `airflow dags test` runs the tasks of a DAG one after another, without a scheduler."""

import os

import timed
from airflow.sdk import dag, task


@task
def step(x: int) -> int:
    timed.stamp()
    return x + 1


@task
def total(values) -> int:
    return sum(values)


@task
def first_frame(path: str) -> str:
    timed.frame().to_parquet(path)
    return path


@task
def pass_on(path: str, number: int) -> str:
    import pandas

    out = f"{path}.{number}"
    pandas.read_parquet(path).to_parquet(out)
    return out


@dag(schedule=None)
def chain():
    x = 0
    for _ in range(10):
        x = step(x)


@dag(schedule=None)
def wide():
    total(step.expand(x=list(range(int(os.environ.get("BENCH_WIDE", "100"))))))


@dag(schedule=None)
def frame():
    path = first_frame(os.path.abspath("frame.parquet"))
    for number in range(10):
        path = pass_on(path, number)


chain()
wide()
frame()
