CONTAINER = """
from functools import partial
from kfp import dsl

@partial(dsl.component, base_image="python:3.12")
def plain() -> int:
    return 1

@dsl.container_component
def shell():
    return dsl.ContainerSpec(image="alpine:3", command=["no-such-program"])

@dsl.pipeline(name="mixed")
def mixed():
    plain().set_memory_limit("900T")
    shell()

@dsl.pipeline(name="easy")
def easy():
    plain().set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
"""


def test_check_says_what_cannot_run_and_what_runs_differently(headrace):
    headrace.write(p__py=CONTAINER)
    cannot = headrace("check", "p.py:mixed", "--run-on-host")
    assert cannot.returncode == 1
    assert "cannot run: component plain needs 900000.0 GB of memory, and this machine has" in cannot.stdout
    assert "cannot run: component shell needs the container image alpine:3: its command no-such" in cannot.stdout
    easy = headrace("check", "p.py:easy")
    assert easy.returncode == 0
    assert "runs, differently: component plain asks for accelerators (1 x nvidia.com/gpu)" in easy.stdout


def test_check_prints_json(headrace):
    headrace.write(p__py=CONTAINER)
    (gap,) = headrace.json("check", "p.py:easy")
    assert (gap["component"], gap["fatal"]) == ("plain", False)
    assert set(gap) == {"component", "problem", "remedy", "fatal"}


def test_check_of_what_runs_as_it_is_says_so(headrace):
    headrace.write(p__py=CONTAINER)
    found = headrace("check", "p.py:plain")
    assert (found.returncode, found.stdout) == (0, "plain: the embedded engine runs all of it.\n")
