"""Settings that a component sees: pauses for a look around, and the TaskConfig that it hands on."""

import asyncio
import subprocess
from functools import partial

import pytest
from kfp import dsl, kubernetes

from headrace.clock import SystemClock
from headrace.runs.engine import Engine

component = partial(dsl.component, base_image="python:3.12")


@component
def plain() -> int:
    return 1


@component
def fail() -> int:
    raise RuntimeError("no luck")


@dsl.pipeline
def paused_before_and_after() -> int:
    return plain().set_debug_pause(before=True, after=True).output


@dsl.pipeline
def paused_on_error():
    fail().set_debug_pause(on_error=True)


@dsl.pipeline
def not_paused() -> int:
    return plain().set_debug_pause(on_error=True).output


def drive_and_touch(runner, text, pauses, until_seen):
    """Drive a run; each pause must have been reached before it is ended."""
    created = runner.create(text)

    async def scenario():
        engine = Engine(home=runner.home, database=runner.database, clock=SystemClock(), environment={})
        driving = asyncio.create_task(engine.drive(created))
        for when in pauses:
            log = await until_seen(created, when)
            subprocess.run(["touch", log.rpartition("touch ")[2]], check=True)  # noqa: ASYNC221 - as the log says
        await driving

    asyncio.run(scenario())
    return runner.result(created)


@pytest.fixture
def until_seen(home):
    async def seen(run_id, when):
        async with asyncio.timeout(60):
            while True:
                for log in (home.logs / "runs" / run_id).glob("*.log"):
                    lines = [line for line in log.read_text().splitlines() if line.startswith(f"Paused {when} ")]
                    if lines:
                        return lines[-1]
                await asyncio.sleep(0.02)

    return seen


def test_a_debug_pause_waits_for_a_person(runner, compiled, until_seen):
    result = drive_and_touch(runner, compiled(paused_before_and_after), ["before", "after"], until_seen)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": 1})


def test_a_debug_pause_on_error_is_for_errors(runner, compiled, until_seen):
    result = drive_and_touch(runner, compiled(paused_on_error), ["after"], until_seen)
    assert (result.state, result.error) == ("FAILED", "task fail: RuntimeError: no luck")
    assert drive_and_touch(runner, compiled(not_paused), [], until_seen).outputs == {"Output": 1}


@component(
    task_config_passthroughs=[
        dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.ENV, apply_to_task=True),
        dsl.TaskConfigField.RESOURCES,
        dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR,
        dsl.TaskConfigField.KUBERNETES_TOLERATIONS,
        dsl.TaskConfigField.KUBERNETES_AFFINITY,
    ]
)
def hands_on(task_config: dsl.TaskConfig) -> dict:
    import dataclasses
    import os

    return {**dataclasses.asdict(task_config), "seen": os.environ.get("COLOUR")}


@component(task_config_passthroughs=[dsl.TaskConfigField.ENV])
def keeps_nothing(task_config: dsl.TaskConfig) -> dict:
    import os

    return {"env": task_config.env, "resources": task_config.resources, "seen": os.environ.get("COLOUR")}


@dsl.pipeline
def handing_on() -> dict:
    task = hands_on().set_env_variable("COLOUR", "red")
    task.set_memory_limit("900T").set_cpu_request("100m").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(
        1
    )
    kubernetes.add_node_selector(task, label_key="disktype", label_value="ssd")
    kubernetes.add_toleration(task, key="k", operator="Exists", effect="NoExecute", toleration_seconds=60)
    kubernetes.add_node_affinity(task, match_expressions=[{"key": "d", "operator": "In", "values": ["ssd"]}])
    return task.output


@dsl.pipeline
def keeping_nothing() -> dict:
    return keeps_nothing().set_env_variable("COLOUR", "red").output


def test_a_component_that_starts_a_workload_elsewhere_is_told_its_own_settings(run):
    told = run(handing_on).outputs["Output"]
    assert told["env"] == [{"name": "COLOUR", "value": "red"}]
    assert told["resources"] == {"limits": {"memory": "900T", "nvidia.com/gpu": "1"}, "requests": {"cpu": "100m"}}
    assert told["node_selector"] == {"disktype": "ssd"}
    assert told["tolerations"] == [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
    terms = told["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [{"key": "d", "operator": "In", "values": ["ssd"]}]}]
    assert told["seen"] == "red"


def test_settings_that_are_handed_on_do_not_hold_for_the_task_unless_it_says_so(run):
    told = run(keeping_nothing).outputs["Output"]
    assert told == {"env": [{"name": "COLOUR", "value": "red"}], "resources": None, "seen": None}
