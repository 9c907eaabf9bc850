"""What the SDK's install prelude asks for: it stands in the component's command only, as shell text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata

# Installed by the prelude itself; the worker brings them along.
_OWN_PACKAGES = {"kfp", "typing-extensions"}
_INDEX_URL, _EXTRA_INDEX_URL, _TRUSTED_HOST = "--index-url", "--extra-index-url", "--trusted-host"
_INDEXES = (_INDEX_URL, _EXTRA_INDEX_URL, _TRUSTED_HOST)
_WITH_VALUE = {*_INDEXES, "-f", "--find-links", "-c", "--constraint", "-r", "-e"}
# Of the prelude's every command: they change nothing in what is installed.
_QUIET = {"--quiet", "--no-warn-script-location"}
_NO_DEPENDENCIES = "--no-deps"


@dataclass(frozen=True)
class Requirements:
    """Packages as pip takes them, and the indexes that they come from: the first one given is the main one.

    `options` are pip's that the author wrote among the packages, as in `--no-deps`.
    """

    packages: tuple[str, ...] = ()
    index_urls: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def unmet(self) -> tuple[str, ...]:
        """The packages that this environment does not have in a version that is asked for, and all with extras."""
        return tuple(package for package in self.packages if not _met(package))


def requirements(command: Sequence[str]) -> Requirements:
    """The requirements in a component's command, without those that the SDK adds of its own accord."""
    installs: list[list[tuple[str, str]]] = []
    for line in "\n".join(command[:-1]).splitlines():
        if "-m pip install " in line:
            installs += _installs(line)
    if installs and (_NO_DEPENDENCIES, "") in installs[-1]:
        # The SDK's own package, from where the author has it, comes last.
        installs.pop()
    words = [word for install in installs if not _of_the_sdk(install) for word in install]
    options = [part for option, word in words if option not in _INDEXES for part in (option, word) if option and part]
    return Requirements(
        packages=_unique(word for option, word in words if not option and not _own(word)),
        index_urls=_unique(word for wanted in _INDEXES[:2] for option, word in words if option == wanted),
        trusted_hosts=_unique(word for option, word in words if option == _TRUSTED_HOST),
        options=tuple(options),
    )


def name_of(package: str) -> str:
    """The bare name of a requirement, in lower case."""
    return re.split(r"[^\w.-]", package.strip())[0].lower()


def _of_the_sdk(install: list[tuple[str, str]]) -> bool:
    """Whether it installs the SDK by its version: before the author's packages up to KFP 2.14, after them since."""
    return all(_own(word) for option, word in install if not option)


def _own(word: str) -> bool:
    """Whether it is there in every worker. What the SDK's extras stand for is not."""
    return name_of(word) in _OWN_PACKAGES and "[" not in word


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _installs(line: str) -> list[list[tuple[str, str]]]:
    """What a line of shell gives to `pip install`: for each command (option or "", its value or a package)."""
    words = shlex.shlex(line, posix=True, punctuation_chars="&")
    words.whitespace_split = True
    words.commenters = ""
    found: list[list[tuple[str, str]]] = []
    before, inside, option = "", False, ""
    for word in words:
        if word == "install" and before == "pip":
            inside, option = True, ""
            found.append([])
        elif word == "&&":
            inside = False
        elif inside and option:
            found[-1].append((option, word))
            option = ""
        elif inside and word in _WITH_VALUE:
            option = word
        elif inside and word not in _QUIET:
            found[-1].append((word, "") if word.startswith("-") else ("", word))
        before = word
    return found


def _met(package: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(package)
        if wanted.marker is not None and not wanted.marker.evaluate():
            return True
        # Whether the packages that an extra stands for are here, and what they need in turn, is for uv to work out.
        if wanted.extras:
            return False
        return wanted.url is None and wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except (InvalidRequirement, metadata.PackageNotFoundError):
        return False
