"""`headrace init`: a folder, ready to run, under git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from headrace.errors import UsageError
from headrace.store.home import PROJECT_FILE

TEMPLATES = ("flights", "blank")
_IGNORED = shutil.ignore_patterns("__pycache__", ".headrace", "scripts", "*.pyc")


def create(folder: Path, template: str) -> Path:
    """Copy a template into `folder`, which must be missing or empty, and make it a git repository.

    Raises:
        UsageError: the folder holds something, cannot be written, or git is missing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("is not an empty folder", where=str(folder), remedy="Give a new folder: headrace init DIR.")
    try:
        shutil.copytree(template_folder(template), folder, dirs_exist_ok=True, ignore=_IGNORED)
        (folder / ".gitignore").write_text(".headrace/\n__pycache__/\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot be written: {error.strerror}", where=str(folder), remedy="Choose a folder that you may write to."
        ) from error
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


def commit_all(folder: Path, message: str) -> str:
    """Commit every change in `folder` and return the commit's sha. Who commits: git's settings, else Headrace."""
    git(folder, "add", "--all")
    identity = [] if _has_identity(folder) else ["-c", "user.name=headrace", "-c", "user.email=headrace@localhost"]
    git(folder, *identity, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """The output of a git command in `folder`. Raises UsageError with git's own words."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UsageError("git is not installed", remedy="Install git, then try again.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise UsageError(f"git {arguments[0]} failed: {said}", where=str(folder))
    return done.stdout


def _has_identity(folder: Path) -> bool:
    done = subprocess.run(["git", "-C", str(folder), "config", "user.email"], capture_output=True, check=False)
    return done.returncode == 0


def template_folder(name: str) -> Path:
    """Where a template's files are. Raises UsageError for an unknown one."""
    packaged = Path(__file__).parent / "templates" / name
    if (packaged / PROJECT_FILE).is_file():
        return packaged
    checkout = Path(__file__).parents[4] / "examples" / name
    if (checkout / PROJECT_FILE).is_file():
        return checkout
    raise UsageError(f'no template is called "{name}"', remedy=f"Templates: {', '.join(TEMPLATES)}.")
