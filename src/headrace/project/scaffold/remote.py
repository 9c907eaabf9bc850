"""A bare repository whose `post-receive` hook hands every push to Headrace."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from headrace.errors import UsageError
from headrace.project.scaffold.create import git
from headrace.store.home import Home

_HOOK = """\
#!/bin/sh
# Hands each push to Headrace, which runs the pipelines that watch the changed files.
HEADRACE_HOME={home} exec {python} -P -m headrace.cli.hook
"""


def create_remote(bare: Path, project: Path, home: Home) -> Path:
    """Make `bare` the project's remote `origin`, with the hook; an existing bare repository keeps its content.

    Raises:
        UsageError: the folder cannot be made, or the project has another `origin`.
    """
    bare = bare.resolve()
    if not (bare / "HEAD").is_file():
        try:
            bare.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot be made: {error.strerror}", where=str(bare)) from error
        git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    if "origin" in git(project, "remote").split():
        if git(project, "remote", "get-url", "origin").strip() != str(bare):
            raise UsageError(
                "the project has another remote called origin",
                where=str(project),
                remedy=f"Push to {bare} by its path.",
            )
    else:
        git(project, "remote", "add", "origin", str(bare))
    install_hook(bare, home)
    return bare


def install_hook(bare: Path, home: Home) -> Path:
    """Write `hooks/post-receive`; a hook of somebody else's is left alone and refused.

    Raises:
        UsageError: another post-receive hook is there.
    """
    hook = bare / "hooks" / "post-receive"
    if hook.exists() and "headrace.cli.hook" not in hook.read_text(encoding="utf-8"):
        raise UsageError(
            "another post-receive hook is there", where=str(hook),
            remedy=f"Add this line to it: HEADRACE_HOME={home.path} {sys.executable} -P -m headrace.cli.hook",
        )  # fmt: skip
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(_HOOK.format(home=shlex.quote(str(home.path)), python=shlex.quote(sys.executable)))
    hook.chmod(0o755)
    return hook
