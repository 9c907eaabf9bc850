"""Which container engine is found, and the command lines that it is given; programs of the test stand for it here."""

from pathlib import Path

import pytest

from headrace.errors import UsageError
from headrace.runs.executors import container
from headrace.runs.executors.container import ContainerEngine, find, told


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts a program on a PATH that holds nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(container.VARIABLE, raising=False)

    def put(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return str(folder / name)

    return put


def test_without_a_program_there_is_no_engine(programs):
    assert find() is None


def test_a_client_without_its_daemon_is_no_engine_until_it_is_started(programs):
    docker = programs("docker", "exit 1")
    assert find() is None
    podman = programs("podman", '[ "$1" = info ]')
    assert find() == ContainerEngine((podman, "run"))
    programs("docker", "exit 0")
    assert find() == ContainerEngine((podman, "run"))
    assert docker != podman


def test_docker_comes_before_podman(programs):
    docker = programs("docker", "exit 0")
    programs("podman", "exit 0")
    assert find() == ContainerEngine((docker, "run"))


def test_the_environment_names_an_engine_with_its_options_or_none(programs, monkeypatch):
    programs("docker", "exit 0")
    programs("mine", "exit 1")
    monkeypatch.setenv(container.VARIABLE, "mine --log 'a b' run --network host")
    assert find() == ContainerEngine(("mine", "--log", "a b", "run", "--network", "host"))
    monkeypatch.setenv(container.VARIABLE, "none")
    assert find() is None


@pytest.mark.parametrize("value", ["docker", "no-such-program run", "docker ps"])
def test_what_does_not_start_a_container_is_refused(programs, monkeypatch, value):
    programs("docker", "exit 0")
    monkeypatch.setenv(container.VARIABLE, value)
    with pytest.raises(UsageError, match="does not start a container") as raised:
        find()
    assert "podman run --network host" in raised.value.remedy


def test_a_command_replaces_the_entry_point_and_what_follows_are_its_arguments():
    engine = ContainerEngine(("podman", "run", "--network", "host"))
    mounts = {Path("/b"): True, Path("/a"): False}
    given = {"mounts": mounts, "environment": {"A": "x y", "B": ""}, "workdir": Path("/b/work")}
    start = [
        "podman", "run", "--network", "host", "--rm", "--name", "n", "--workdir", "/b/work",
        "--mount", "type=bind,source=/a,target=/a,readonly", "--mount", "type=bind,source=/b,target=/b",
        "--env", "A=x y", "--env", "B=",
    ]  # fmt: skip
    assert engine.command("n", "image:1", ["sh", "-c"], ["echo a"], **given) == [
        *start, "--entrypoint", "sh", "image:1", "-c", "echo a",
    ]  # fmt: skip
    assert engine.command("n", "image:1", [], ["--help"], **given) == [*start, "image:1", "--help"]


def test_a_container_is_killed_and_removed_by_its_name(programs, tmp_path):
    program = programs("podman", f'echo "$@" >> {tmp_path}/log; exit 1')
    ContainerEngine((program, "--log-level", "error", "run", "--network", "host")).remove("name")
    assert (tmp_path / "log").read_text().splitlines() == [
        "--log-level error kill name", "--log-level error rm --force name",
    ]  # fmt: skip


def test_an_engine_that_does_not_answer_is_left_alone_and_is_none(programs, monkeypatch):
    monkeypatch.setattr(container, "_ANSWER_SECONDS", 0.3)
    program = programs("podman", "exec /bin/sleep 60")
    ContainerEngine((program, "run")).remove("name")
    assert find() is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "exit code 1"),
        (125, "could not be started"),
        (126, "cannot be executed"),
        (127, "does not exist"),
        (137, "137"),
    ],
)
def test_an_exit_code_is_told_in_words(code, words):
    assert words in told(code)


def test_a_container_can_be_found_again_by_the_run_the_task_and_the_attempt():
    one = container.container_name("abc", "for-loop-1/0/train", 2)
    assert one == container.container_name("abc", "for-loop-1/0/train", 2)
    assert one.startswith("headrace-abc-")
    others = {
        container.container_name("abc", path, n) for path, n in (("for-loop-1/1/train", 2), ("train", 2), ("train", 1))
    }
    assert len(others | {one}) == 4
