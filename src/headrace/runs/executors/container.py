"""Containers by docker or podman: the command that starts one, and the one that ends it.

`HEADRACE_CONTAINER` holds the start of another command line, as in `podman --runtime runc run --network host`; `none`
is for no containers at all.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import UsageError

VARIABLE = "HEADRACE_CONTAINER"
NONE = "none"
_KNOWN = ("docker", "podman")
_RUN = "run"
_ANSWER_SECONDS = 20.0
# By PATH. Only what was there once: one that is started later is to be found without starting Headrace anew.
_answered: dict[str, ContainerEngine] = {}
_TOLD = {
    125: "the container could not be started (the task's log says why)",
    126: "the container's command cannot be executed (the task's log says why)",
    127: "the container's command does not exist in its image",
}


@dataclass(frozen=True)
class ContainerEngine:
    """A program that runs containers; `words` starts a command line that ends in `run` and its options."""

    words: tuple[str, ...]

    def command(
        self,
        name: str,
        image: str,
        command: Sequence[str],
        args: Sequence[str],
        *,
        mounts: Mapping[Path, bool],
        environment: Mapping[str, str],
        workdir: Path,
    ) -> list[str]:
        """Run `image` and remove the container afterwards; `mounts` are folders and whether they can be written.

        As in Kubernetes, `command` replaces the image's entry point and `args` its arguments.
        """
        words = [*self.words, "--rm", "--name", name, "--workdir", str(workdir)]
        for path, writable in sorted(mounts.items()):
            words += ["--mount", _mount(path, writable)]
        for variable, value in environment.items():
            words += ["--env", f"{variable}={value}"]
        if command:
            words += ["--entrypoint", command[0]]
        return [*words, image, *command[1:], *args]

    def remove(self, name: str) -> None:
        """End a container, wherever it has got to. Idempotent: one that does not exist is none."""
        program = self.words[: self.words.index(_RUN)]
        # podman's rm alone would wait ten seconds for a command that does not listen to SIGTERM.
        for ending in (["kill", name], ["rm", "--force", name]):
            # An engine that does not answer must not stop the runs that have no container.
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([*program, *ending], capture_output=True, check=False, timeout=_ANSWER_SECONDS)


def _mount(path: Path, writable: bool) -> str:
    """A mount at its own path: fields of CSV, as a path may hold a comma or a colon."""
    fields = io.StringIO()
    csv.writer(fields, lineterminator="").writerow(
        ["type=bind", f"source={path}", f"target={path}", *([] if writable else ["readonly"])]
    )
    return fields.getvalue()


def told(exit_code: int) -> str:
    """What an exit code of `run` means. Source: the manuals of docker-run and podman-run, Exit Status."""
    return _TOLD.get(exit_code, f"the container ended with exit code {exit_code}")


def container_name(run_id: str, path: str, attempt: int) -> str:
    """The name of an attempt's container: it can be found again without a record of it."""
    return f"headrace-{run_id}-{hashlib.sha256(path.encode()).hexdigest()[:8]}-{attempt}"


def find() -> ContainerEngine | None:
    """The engine that the environment names, else docker or podman when one is there and answers.

    Raises:
        UsageError: HEADRACE_CONTAINER is no command line that starts a container.
    """
    named = os.environ.get(VARIABLE)
    if named == NONE:
        return None
    if named:
        return _named(named)
    path = os.environ.get("PATH", "")
    if path not in _answered:
        programs = (shutil.which(program, path=path) for program in _KNOWN)
        found = next((program for program in programs if program is not None and _answers(program)), None)
        if found is None:
            return None
        _answered[path] = ContainerEngine((found, _RUN))
    return _answered[path]


def _named(text: str) -> ContainerEngine:
    words = tuple(shlex.split(text))
    if _RUN not in words or shutil.which(words[0]) is None:
        raise UsageError(
            f"{VARIABLE}={text} does not start a container", remedy='As in "podman run --network host", or unset it.'
        )
    return ContainerEngine(words)


def _answers(program: str) -> bool:
    """A client without its daemon is no engine."""
    try:
        done = subprocess.run([program, "info"], capture_output=True, check=False, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
