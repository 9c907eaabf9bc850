"""Who may do what: roles, and whoever acts with them."""

from __future__ import annotations

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
    """Whoever acts: the name that the event log remembers, and the roles."""

    name: str
    roles: frozenset[Role]

    def may(self, *roles: Role) -> bool:
        """Whether one of `roles` is theirs. An admin may everything; everybody may what a viewer may."""
        return Role.ADMIN in self.roles or Role.VIEWER in roles or bool(self.roles & set(roles))
