"""Environments for components with packages of their own: real uv, and an index that is a folder."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
from kfp import dsl

from headrace.clock import SystemClock
from headrace.runs import environments, transitions
from headrace.runs.attempts import log_path
from headrace.runs.engine import Engine
from headrace.runs.environments import EnvironmentNotMadeError, python_for
from headrace.runs.prelude import Requirements
from headrace.store.locks import holder

component = partial(dsl.component, base_image="python:3.12")


def add_wheel(index, name, version, needs=()):
    """Put a wheel with one module into a PEP 503 index; the module says its version."""
    place = index / name
    place.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    told = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"] + [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(place / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f'VERSION = "{version}"\n')
        wheel.writestr(f"{about}/METADATA", "\n".join(told) + "\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    links = [f'<a href="{file.name}">{file.name}</a>' for file in sorted(place.glob("*.whl"))]
    (place / "index.html").write_text("\n".join(links))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The URL of an index with two versions of a small package, and another one that needs it."""
    folder = tmp_path_factory.mktemp("index")
    add_wheel(folder, "tinywheel", "1.0")
    add_wheel(folder, "tinywheel", "2.0")
    add_wheel(folder, "tinyuser", "1.0", needs=["tinywheel==1.0"])
    add_wheel(folder, "six", "99.0", needs=["tinywheel==1.0; extra == 'tiny'"])
    return folder.as_uri()


@pytest.fixture(scope="module", autouse=True)
def uv_cache(tmp_path_factory):
    """What uv keeps between the tests of this file, and not beyond."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv")))
        for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def component_with(index):
    """Gives a decorator for components that want packages of the index."""
    return lambda *packages: component(packages_to_install=list(packages), pip_index_urls=[index])


@pytest.fixture
def logging_uv(tmp_path, monkeypatch):
    """uv, noting each of its commands in a file; gives the commands so far."""
    log = tmp_path / "uv.log"
    program = tmp_path / "uv"
    program.write_text(f'#!/bin/sh\necho "$1" >> {log}\nexec {environments.find_uv()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(environments, "find_uv", lambda: str(program))
    return lambda: log.read_text().split() if log.exists() else []


def made(home):
    """The environments that are ready."""
    return sorted(file.parent for file in (home.path / "environments").glob("*/ready.json"))


def where() -> list:
    """Which version there is, and in which environment."""
    import sys

    import tinywheel

    return [tinywheel.VERSION, sys.prefix]


def test_a_component_finds_its_packages_in_an_environment_that_it_shares(run, component_with, logging_uv, home):
    installed = {found.name: found.version for found in metadata.distributions()}
    first = component_with("tinywheel==1.0")(where)

    @dsl.pipeline
    def sharing():
        first()
        first().set_display_name("again")

    result = run(sharing)
    assert result.state == "SUCCEEDED", result.error
    (folder,) = made(home)
    assert [task["outputs"]["Output"] for task in result.tasks.values()] == [["1.0", str(folder)]] * 2
    assert logging_uv() == ["venv", "pip"]
    assert {found.name: found.version for found in metadata.distributions()} == installed
    assert "tinywheel" not in installed
    told = log_path(home, result.run_id, "where", 1).read_text()
    assert told == "headrace: waits for an environment with tinywheel==1.0, which is made once\n"

    again = run(sharing, caching=False)
    assert [task["outputs"]["Output"] for task in again.tasks.values()] == [["1.0", str(folder)]] * 2
    assert log_path(home, again.run_id, "where", 1).read_text() == ""
    assert logging_uv() == ["venv", "pip"]


def test_another_version_is_another_environment_and_each_brings_what_it_needs(run, component_with, home):
    @component_with("tinywheel>=2")
    def newer() -> str:
        import tinywheel

        return tinywheel.VERSION

    @component_with("tinyuser")
    def needing() -> str:
        import tinyuser
        import tinywheel

        return f"{tinyuser.VERSION} with {tinywheel.VERSION}"

    @dsl.pipeline
    def two():
        newer()
        needing()

    result = run(two)
    assert result.state == "SUCCEEDED", result.error
    assert result.tasks["newer"]["outputs"] == {"Output": "2.0"}
    assert result.tasks["needing"]["outputs"] == {"Output": "1.0 with 1.0"}
    assert len(made(home)) == 2


def test_a_package_that_does_not_exist_fails_its_task_and_no_other(run, component_with, home):
    @component_with("tinywheel==1.0", "no-such-wheel==3")
    def lost() -> int:
        return 1

    @component
    def plain() -> int:
        return 1

    @dsl.pipeline
    def losing():
        lost()
        plain()

    result = run(losing)
    assert (result.state, result.tasks["plain"]["state"]) == ("FAILED", "SUCCEEDED")
    assert result.error.startswith(
        "task lost: the environment with tinywheel==1.0, no-such-wheel==3 cannot be made:\n"
    )  # fmt: skip
    assert "no-such-wheel was not found" in result.error.replace("\n", " ")
    assert result.error.endswith(
        "Correct the component's packages_to_install or pip_index_urls, or look after the network."
    )
    assert made(home) == []


def test_a_component_may_want_headrace_beside_another_package(run, component_with, home):
    @component_with("headrace", "tinywheel==1.0")
    def both() -> list:
        import sys

        import pandas
        import tinywheel

        from headrace.contracts.quantities import quantity

        return [tinywheel.VERSION, quantity("1k"), pandas.__name__, sys.prefix]

    @dsl.pipeline
    def with_headrace() -> list:
        return both().output

    result = run(with_headrace)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {"Output": ["1.0", 1000, "pandas", str(made(home)[0])]}


def test_another_version_of_headrace_than_this_one_is_not_passed_off_as_it(run, component_with):
    @component_with("headrace==99")
    def later() -> int:
        return 1

    @dsl.pipeline
    def from_the_future():
        later()

    result = run(from_the_future)
    assert result.state == "FAILED"
    assert "the environment with headrace==99 cannot be made" in result.error


def test_a_component_whose_packages_are_here_needs_no_environment(run, component_with, home):
    @component_with("pandas>=2", "kfp==2.0.1", "no-such-wheel; python_version < '3'")
    def content() -> str:
        import sys

        return sys.prefix

    @dsl.pipeline
    def contented() -> str:
        return content().output

    result = run(contented)
    assert result.outputs == {"Output": sys.prefix}, result.error
    assert not (home.path / "environments").exists()


def test_a_package_that_is_here_without_its_extra_comes_with_it_into_an_environment(run, component_with, home):
    tiny_component = component_with("six[tiny]")(where)

    @dsl.pipeline
    def extra() -> list:
        return tiny_component().output

    assert python_for(home, Requirements(("six",))) is None
    assert python_for(home, Requirements(("six[tiny]; python_version < '3'",))) is None
    result = run(extra)
    assert result.state == "SUCCEEDED", result.error
    assert result.outputs == {"Output": ["1.0", str(made(home)[0])]}


TINY = "tinywheel==1.0"


@pytest.fixture
def tiny(index):
    return Requirements((TINY,), (index,))


def test_makers_at_the_same_time_make_an_environment_once(home, tiny, logging_uv):
    found = []
    makers = [threading.Thread(target=lambda: found.append(python_for(home, tiny))) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert found == [made(home)[0] / "bin" / "python"] * 3
    assert logging_uv() == ["venv", "pip"]
    assert subprocess.check_output([found[0], "-c", "import tinywheel; print(tinywheel.VERSION)"], text=True) == "1.0\n"


# uv as other processes have it: it waits in the middle of its work.
MAKER = """
import sys
from pathlib import Path
from headrace.runs.environments import python_for
from headrace.runs.prelude import Requirements
from headrace.store.home import Home

uv, home, index = sys.argv[1:]
python_for(Home(Path(home)), Requirements(("tinywheel==1.0",), (index,)), installer=lambda: uv)
"""
SERVER = """
import asyncio, signal, sys
from pathlib import Path
from headrace.clock import SystemClock
from headrace.project.wiring import open_database
from headrace.runs import environments
from headrace.runs.engine import Engine
from headrace.store.home import Home

uv, folder = sys.argv[1:]
environments.find_uv = lambda: uv

async def serve():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    home = Home(Path(folder))
    await Engine(home=home, database=open_database(home), clock=SystemClock(), environment={}).serve(stop)

asyncio.run(serve())
"""
SLOW_UV = """#!/bin/sh
{uv} "$@" || exit
[ "$1" = venv ] && exit
touch {folder}/half
while ! [ -e {folder}/go ]; do sleep 0.05; done
touch {folder}/late
"""


@pytest.fixture
def slow_uv(tmp_path):
    """A uv that makes `half`, waits for `go` and makes `late`."""
    uv = tmp_path / "slow-uv"
    uv.write_text(SLOW_UV.format(uv=environments.find_uv(), folder=tmp_path))
    uv.chmod(0o755)
    yield str(uv)
    (tmp_path / "go").touch()


@pytest.fixture
def start(slow_uv):
    """Starts a script with the slow uv in a session of its own; what is left of it at the end is killed."""
    started = []

    def start_script(script, *arguments, **more):
        command = [sys.executable, "-c", script, slow_uv, *map(str, arguments)]
        started.append(subprocess.Popen(command, start_new_session=True, **more))
        return started[-1]

    yield start_script
    for process in started:
        process.kill()
        process.wait()


def test_a_making_that_was_killed_is_begun_anew_once_what_it_started_has_ended(
    home, tiny, index, start, tmp_path, until
):
    maker = start(MAKER, home.path, index)
    until((tmp_path / "half").exists)
    maker.kill()
    maker.wait()

    (lock,) = home.locks.glob("environment-*.lock")
    assert holder(lock) == {"pid": maker.pid, "packages": [TINY]}
    assert made(home) == []
    found = []
    next_maker = threading.Thread(target=lambda: found.append((python_for(home, tiny), (tmp_path / "late").exists())))
    next_maker.start()
    (tmp_path / "go").touch()
    next_maker.join()
    ((python, late),) = found
    assert late
    assert subprocess.check_output([python, "-c", "import tinywheel; print(tinywheel.VERSION)"], text=True) == "1.0\n"
    assert json.loads((made(home)[0] / "ready.json").read_text()) == {"packages": [TINY]}


def test_ctrl_c_while_an_environment_is_made_fails_nothing_and_the_run_goes_on_later(
    compiled, component_with, home, database, runner, start, tmp_path, until
):
    tiny_component = component_with(TINY)(where)

    @dsl.pipeline
    def interrupted() -> list:
        return tiny_component().output

    created = runner.create(compiled(interrupted))
    server = start(SERVER, home.path)
    until((tmp_path / "half").exists)
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait(60) == 0
    assert runner.result(created).state == "PENDING"
    result = runner.drive(created)
    assert (result.state, result.outputs) == ("SUCCEEDED", {"Output": ["1.0", str(made(home)[0])]}), result.error
    tries = database.query("SELECT state FROM attempt ORDER BY number")
    assert [row["state"] for row in tries] == ["LOST", "SUCCEEDED"]


def test_cancelling_a_run_ends_the_making_of_its_environment_and_another_run_makes_it(
    runner, compiled, component_with, home, database, slow_uv, monkeypatch, tmp_path
):
    monkeypatch.setattr(environments, "find_uv", lambda: slow_uv)
    tiny_component = component_with(TINY)(where)

    @dsl.pipeline
    def wanting() -> list:
        return tiny_component().output

    text = compiled(wanting)
    one = runner.create(text)

    async def scenario():
        stop = asyncio.Event()
        serving = asyncio.create_task(
            Engine(home=home, database=database, clock=SystemClock(), environment={}).serve(stop)
        )

        async def until(condition):
            async with asyncio.timeout(60):
                while not condition():
                    await asyncio.wait([serving], timeout=0.01)

        await until(lambda: (tmp_path / "half").exists())
        other = runner.create(text)
        await until(lambda: len(database.query("SELECT * FROM attempt")) == 2)
        (tmp_path / "half").unlink()
        transitions.request_cancel(database, one, actor="user:ann", reason="", at=2e9)
        await until(lambda: runner.result(one).state == "CANCELED")
        await until(lambda: (tmp_path / "half").exists())
        assert not (tmp_path / "late").exists()
        (tmp_path / "go").touch()
        await until(lambda: runner.result(other).state == "SUCCEEDED")
        stop.set()
        await serving
        return other

    other = asyncio.run(scenario())
    assert runner.result(other).outputs == {"Output": ["1.0", str(made(home)[0])]}
    assert runner.result(one).tasks["where"]["state"] == "CANCELED"


def test_a_making_that_is_interrupted_each_time_fails_its_task(run, component_with, tmp_path, monkeypatch):
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nkill -9 $$\n")
    uv.chmod(0o755)
    monkeypatch.setattr(environments, "find_uv", lambda: str(uv))
    tiny_component = component_with(TINY)(where)

    @dsl.pipeline
    def hopeless() -> list:
        return tiny_component().output

    result = run(hopeless)
    assert result.error == (
        "task where: the making of the environment with tinywheel==1.0 was interrupted 3 times when it was to start"
        " the task"
    )


def test_an_environment_that_cannot_be_made_is_tried_again_the_next_time(home, index, tiny):
    with pytest.raises(EnvironmentNotMadeError, match=r"tinywheel==1\.0 cannot be made") as raised:
        python_for(home, Requirements((TINY,), (f"{index}/nothing-here",)))
    assert "pip_index_urls" in raised.value.remedy
    with pytest.raises(FileNotFoundError):
        python_for(home, tiny, installer=lambda: "/no/such/uv")
    assert python_for(home, tiny).exists()


def test_the_same_packages_in_another_order_are_the_same_environment(index):
    one, other = (Requirements(packages, (index,)) for packages in (("a", "b"), ("b", "a")))
    assert environments.key(one) == environments.key(other)
    assert environments.key(one) != environments.key(Requirements(("a", "b")))


def test_the_options_for_uv_name_the_main_index_the_others_and_hosts_without_a_certificate(home, tmp_path):
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/$1.txt\n[ "$1" = venv ]\n')
    uv.chmod(0o755)
    urls, hosts = (
        ("https://main.example/s", "file:///more"),
        ("https://me@main.example:8443/s", "file:///more", "b.example"),
    )
    wanted = Requirements(("a==1",), urls, hosts)
    with pytest.raises(EnvironmentNotMadeError):
        python_for(home, wanted, installer=lambda: str(uv))
    words = (tmp_path / "pip.txt").read_text().split()
    assert words[words.index("--default-index") :] == [
        "--default-index", "https://main.example/s", "--index", "file:///more",
        "--allow-insecure-host", "main.example:8443", "--allow-insecure-host", "b.example", "a==1",
    ]  # fmt: skip
    assert Path(words[words.index("--python") + 1]).parent.parent.parent == home.path / "environments"
