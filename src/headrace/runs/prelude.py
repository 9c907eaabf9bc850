"""What the SDK's install prelude asks for: it stands in the component's command only, as shell text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

# Installed by the prelude itself; the worker brings them along.
_OWN_PACKAGES = {"kfp", "typing-extensions"}
_INDEX_URL, _EXTRA_INDEX_URL, _TRUSTED_HOST = "--index-url", "--extra-index-url", "--trusted-host"


@dataclass(frozen=True)
class Requirements:
    """Packages as pip takes them, and the indexes that they come from: the first one given is the main one."""

    packages: tuple[str, ...] = ()
    index_urls: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()

    @property
    def unmet(self) -> tuple[str, ...]:
        """The packages that this environment does not have in a version that is asked for."""
        return tuple(package for package in self.packages if not _met(package))


def requirements(command: Sequence[str]) -> Requirements:
    """The requirements in a component's command, without those that the SDK adds of its own accord."""
    words: list[tuple[str, str]] = []
    for line in "\n".join(command[:-1]).splitlines():
        if "-m pip install " in line:
            words += _installs(line)
    packages = dict.fromkeys(word for option, word in words if not option and name_of(word) not in _OWN_PACKAGES)
    main = dict.fromkeys(word for option, word in words if option == _INDEX_URL)
    extra = dict.fromkeys(word for option, word in words if option == _EXTRA_INDEX_URL)
    trusted = dict.fromkeys(word for option, word in words if option == _TRUSTED_HOST)
    return Requirements(tuple(packages), (*main, *extra), tuple(trusted))


def name_of(package: str) -> str:
    """The bare name of a requirement, in lower case."""
    return re.split(r"[^\w.-]", package.strip())[0].lower()


def _installs(line: str) -> list[tuple[str, str]]:
    """What a line of shell gives to `pip install`, all commands in it together: (option or "", word)."""
    words = shlex.shlex(line, posix=True, punctuation_chars="&")
    words.whitespace_split = True
    words.commenters = ""
    found: list[tuple[str, str]] = []
    before, inside = "", False
    for word in words:
        if word == "install" and before == "pip":
            inside = True
        elif word == "&&":
            inside = False
        elif inside and not word.startswith("-"):
            takes_value = before in (_INDEX_URL, _EXTRA_INDEX_URL, _TRUSTED_HOST)
            found.append((before if takes_value else "", word))
        before = word
    return found


def _met(package: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(package)
        if wanted.marker is not None and not wanted.marker.evaluate():
            return True
        return wanted.url is None and wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except (InvalidRequirement, metadata.PackageNotFoundError):
        return False
