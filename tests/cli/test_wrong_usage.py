"""What a new user gets wrong: each time an exit code, where it is, what it is, what to do, and no traceback."""

import resource
from pathlib import Path

import pytest

from headrace.project.compile import compile_pipeline

GOOD = """
from kfp import dsl

@dsl.component
def add(a: int, b: list) -> int:
    print("adding")
    return a + len(b)

@dsl.pipeline(name="sum")
def total(a: int, b: list = [1]) -> int:
    return add(a=a, b=b).output
"""

RAISES = """
from kfp import dsl

@dsl.component
def boom():
    for number in range(40):
        print("line", number)
    raise ValueError("the sky is falling")

@dsl.pipeline(name="boomer")
def boomer():
    boom()
"""

CONTAINER = """
from kfp import dsl

@dsl.component
def first(marker: str):
    open(marker, "w").close()

@dsl.container_component
def shell():
    return dsl.ContainerSpec(image="busybox:1.36", command=["true"])

@dsl.pipeline(name="box")
def box(marker: str):
    shell().after(first(marker=marker))
"""

MUTE = """
from kfp import dsl

@dsl.container_component
def ask():
    return dsl.ContainerSpec(image="kfp://human-input", command=["wait"], args=["go on?"])

@dsl.pipeline(name="mute")
def mute():
    ask()
"""

TWO = GOOD + GOOD.replace("total", "other").replace('"sum"', '"other"')

PROJECT = """[project]
name = "p"

[pipelines.total]
source = "good.py:total"
parameters = { a = 1 }

[environments.dev]
engine = "embedded"

[environments.prod]
engine = "kubeflow"
"""


@pytest.fixture(scope="module")
def user(shared_headrace):
    """A project, and pipelines with which something is wrong."""
    shared_headrace.write(
        good__py=GOOD, container__py=CONTAINER, two__py=TWO,
        headrace__toml=PROJECT,
    )  # fmt: skip
    shared_headrace.write(sum__yaml=compile_pipeline(shared_headrace.folder / "good.py"))
    return shared_headrace


WRONG_RUNS = {
    "": ["Missing argument 'PIPELINE'", "headrace run --help"],
    "missing.py": ["{folder}: no such file: missing.py", "Check the path"],
    "missing.yaml": ["{folder}: no such file: missing.yaml", "Check the path"],
    "totl": ['no pipeline is called "totl"', 'Did you mean "total"?'],
    "good": ['no pipeline is called "good"', 'Did you mean "good.py"?'],
    "good.py:totl": ['{folder}/good.py: no pipeline function is called "totl"', "in this file: total."],
    "two.py": ["{folder}/two.py: the file has 2 pipelines", "after a colon: other, total."],
    "total -e stage": ["headrace.toml", 'no environment is called "stage"', "Known: dev, prod."],
    "total -e prod": ["{folder}/headrace.toml: environments.prod", '"kubeflow"', 'engine = "embedded"'],
    "sum.yaml": ["{folder}/sum.yaml: the pipeline sum needs the parameter a (int)", "-p a=VALUE"],
    "sum.yaml -p c=1": ["{folder}/sum.yaml: the pipeline sum has no parameter c", "Its parameters: "],
    "sum.yaml -p a": ["-p a is not NAME=VALUE", "-p threshold=0.7"],
    "sum.yaml -p a=one": ["parameter a must be", "int", "'one'"],
    "sum.yaml -p b=1,2 -p a=1": ["parameter b must be", "list", "'1,2'", "as JSON"],
    "sum.yaml --jsn": ["No such option '--jsn'", "Did you mean '--json'?"],
    "container.py -p marker=marker": ["component shell", "busybox:1.36", "@dsl.component"],
}


@pytest.mark.parametrize("line", WRONG_RUNS)
def test_a_run_that_cannot_start_says_why_and_leaves_no_trace(user, line):
    user.refused("run", *line.split(), says=WRONG_RUNS[line])
    with user.database() as database:
        assert database.query("SELECT id FROM run") == []
    assert not (user.folder / "marker").exists()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("raises.py", "from kfp import dsl\n\n1 / 0\n", ["raises.py:3: ", "ZeroDivisionError", "--debug"]),
        ("leaves.py", "import sys\nsys.exit(3)\n", ["leaves.py:2: ", "SystemExit: 3"]),
        ("syntax.py", "a = 1\ndef (:\n", ["syntax.py:2: syntax error", "Mend this line"]),
        ("imports.py", "import no_such_thing\n", ["imports.py:1: ", "no_such_thing", "uv pip install no_such_thing"]),
        ("empty.py", "a = 1\n", ["empty.py: the file has no pipeline", "@dsl.pipeline"]),
        ("broken.yaml", "a: [1\n", ["broken.yaml:2: not valid YAML", "Mend this line"]),
        ("other.yaml", "kind: Deployment\n", ["other.yaml: not a PipelineSpec", "kfp.compiler"]),
        ("notes.txt", "hello", ["notes.txt: not a compiled pipeline", ".py file"]),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value else "",
)
def test_a_file_that_is_no_pipeline_is_pointed_at(headrace, name, text, says):
    (headrace.folder / name).write_text(text)
    headrace.refused("run", name, says=["{folder}/" + says[0], *says[1:]])


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("source =", "sorce =", ["headrace.toml:5: pipelines.total.sorce", 'Did you mean "source"?']),
        ('name = "p"', "name = p", ["headrace.toml:2: not valid TOML", "Mend this line"]),
        ("good.py:total", "god.py:total", ["headrace.toml: pipelines.total.source: no such file: god.py", "relative"]),
        ("{ a = 1 }", '{ a = { path = "x" } }', ["headrace.toml: parameter a: x does not exist", "Correct the path"]),
        ("{ a = 1 }", '{ a = { glob = "*.x" } }', ["headrace.toml: parameter a: *.x matches no file"]),
        ('"kubeflow"', '"kubflow"', ["headrace.toml:12: environments.prod.engine", "Choose one of embedded"]),
    ],
)
def test_a_slip_in_headrace_toml_is_pointed_at(headrace, right, wrong, says):
    headrace.write(headrace__toml=PROJECT.replace(right, wrong), good__py=GOOD)
    headrace.refused("run", "total", says=["{folder}/" + says[0], *says[1:]])


def test_a_component_that_raises_shows_the_end_of_its_log(headrace):
    headrace.write(raises__py=RAISES)
    done = headrace("run", "raises.py")
    assert (done.returncode, done.stderr) == (1, "")
    assert "boom: ValueError: the sky is falling\n  the end of its log (" in done.stdout
    shown = [line.removeprefix("  │ ") for line in done.stdout.splitlines() if line.startswith("  │ ")]
    assert shown[-1] == "ValueError: the sky is falling"
    assert "line 39" in shown
    assert "line 0" not in shown
    log = Path(done.stdout.partition("its log (")[2].partition(")")[0])
    assert log.read_text().startswith("line 0\n")


def test_a_gate_that_asks_nothing_fails_before_it_starts(headrace):
    headrace.write(mute__py=MUTE)
    done = headrace("run", "mute.py")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[1].split() == ["✗", "ask", "not", "started"]
    assert "ask: a gate asks in a JSON object, and this is none: go on?" in done.stdout


def test_debug_shows_the_traceback_of_the_users_file(headrace):
    headrace.write(raises__py="def half(n):\n    return n / 0\n\nhalf(1)\n")
    assert "Traceback" not in headrace("run", "raises.py").stderr
    shown = headrace("--debug", "run", "raises.py")
    assert shown.returncode == 2
    assert "in half" in shown.stderr


def test_a_state_folder_that_cannot_be_is_named(headrace):
    headrace.write(good__py=GOOD)
    headrace.home = headrace.folder / "good.py" / "home"
    for command in (["run", "good.py", "-p", "a=1"], ["runs", "list"], ["up"], ["approvals", "list"]):
        headrace.refused(*command, says=[f"error: {headrace.home}", "cannot be written", "set HEADRACE_HOME"])


def test_a_place_for_artifacts_or_logs_that_is_taken_is_named(headrace):
    headrace.write(good__py=GOOD)
    headrace.home.mkdir()
    (headrace.home / "artifacts").touch()
    where = f"{headrace.home / 'artifacts'}: the state folder cannot be written"
    headrace.refused("run", "good.py", "-p", "a=1", says=[where, "HEADRACE_HOME"])
    (headrace.home / "artifacts").unlink()
    (headrace.home / "logs").mkdir()
    (headrace.home / "logs" / "runs").touch()
    failed = headrace("run", "good.py", "-p", "a=1")
    assert (failed.returncode, failed.stderr) == (1, "")
    assert f"add: [Errno 20] Not a directory: '{headrace.home / 'logs' / 'runs'}" in failed.stdout


@pytest.mark.parametrize("kibibytes", [4, 64])
def test_a_full_disk_is_no_defect(headrace, kibibytes):
    headrace.write(good__py=GOOD)
    limit = kibibytes * 1024
    # No file may grow past the limit, and the database has to: a full disk, without being root.
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))}
    says = ["disk I/O error", "Free space on its disk", "set HEADRACE_HOME"]
    headrace.refused("run", "good.py", "-p", "a=1", says=says, code=1, **full)
