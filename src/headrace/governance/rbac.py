"""Who may do what: roles, and whoever acts with them."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a role allows besides reading, which every role does."""

    VIEWER = "viewer"
    """Read."""
    OPERATOR = "operator"
    """Act on runs, pipelines and rollouts."""
    APPROVER = "approver"
    """Decide gates; promote, abort and roll back."""
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True)
class Principal:
    """Whoever acts: the name that the event log remembers, and the roles. `signed_in`: a token has proved the name."""

    name: str
    roles: frozenset[Role]
    signed_in: bool = False

    def may(self, *roles: Role) -> bool:
        """Whether one of `roles` is theirs. An admin may everything; whoever has a role may what a viewer may."""
        if Role.ADMIN in self.roles:
            return True
        return bool(self.roles & set(roles)) or (bool(self.roles) and Role.VIEWER in roles)


NOBODY = Principal("", frozenset())
"""Whoever has not said who they are, where that is asked for."""


def owner() -> Principal:
    """Whose account this process has: where no sign-in is asked for, they may everything."""
    return Principal(f"user:{getpass.getuser()}", frozenset(Role))
