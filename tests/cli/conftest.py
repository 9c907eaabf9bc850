import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from headrace.project.wiring import open_database
from headrace.store.home import Home

PATIENCE_SECONDS = 60


class CommandLine:
    """`headrace …` as a person types it: a process of its own, in `folder`, with its state in `home`."""

    def __init__(self, folder, home):
        self.folder = folder
        self.home = home
        self._started = []

    def __call__(self, *arguments, cwd=None, extra=None, **more):
        """What came of a command that ends by itself; `extra` is added to its environment."""
        return subprocess.run(
            self._command(arguments), cwd=cwd or self.folder, env={**self._environment(), **(extra or {})},
            capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS, **more,
        )  # fmt: skip

    def json(self, *arguments, code=0, **more):
        """What a command prints with --json: one document, and nothing beside it. NaN is no JSON."""
        done = self(*arguments, "--json", **more)
        assert (done.returncode, done.stderr) == (code, "")
        return json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    def refused(self, *arguments, says, code=2, **more):
        """Check that a command ends with `code`, prints no result, and tells the user each of `says`, not a traceback.

        `{folder}` in `says` is the folder of the command line.
        """
        done = self(*arguments, **more)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        for words in says:
            assert words.replace("{folder}", str(self.folder)) in done.stderr
        assert "Traceback" not in done.stderr
        assert "a defect of Headrace" not in done.stderr

    def start(self, *arguments):
        """A command that goes on while the test does something else; it is killed at the end of the test."""
        process = subprocess.Popen(
            self._command(arguments), cwd=self.folder, env=self._environment(), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def write(self, **files):
        """Put files into the folder: `a__py` becomes a.py."""
        for name, text in files.items():
            (self.folder / name.replace("__", ".")).write_text(text)

    def newest(self):
        """The id of the newest run."""
        return self.json("runs", "list", "--limit", "1")[0]["run_id"]

    @contextmanager
    def database(self):
        """The database that the commands use."""
        database = open_database(Home(self.home))
        yield database
        database.close()

    def end(self):
        for process in self._started:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def _command(self, arguments):
        return [sys.executable, "-m", "headrace.cli.main", *map(str, arguments)]

    def _environment(self):
        known = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        # What a container component does here must not depend on who runs the tests.
        known["HEADRACE_CONTAINER"] = "none"
        return {**known, "HEADRACE_HOME": str(self.home)} if self.home else known


@pytest.fixture
def headrace(tmp_path):
    line = CommandLine(tmp_path, tmp_path / "home")
    yield line
    line.end()


@pytest.fixture(scope="module")
def shared_headrace(tmp_path_factory):
    """One folder and home for the whole file."""
    folder = tmp_path_factory.mktemp("shared")
    line = CommandLine(folder, folder / "home")
    yield line
    line.end()


@pytest.fixture
def until():
    """Waits for something that another process does."""

    def wait(happened):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := happened()):
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)
        return found

    return wait
