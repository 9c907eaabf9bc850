"""What stands around every page: where one is, who one is, how much waits for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import headrace
from headrace.governance import approvals
from headrace.project.wiring import Platform


@dataclass(frozen=True)
class Frame:
    """The same for every page."""

    project: str
    environment: str
    mlflow: str
    version: str
    waiting: int


class Frames:
    """Makes the frame for a page."""

    def __init__(self, platform: Platform, about: Mapping[str, Any]) -> None:
        self.platform = platform
        self.about = about

    def now(self) -> Frame:
        """The frame as it is now."""
        platform = self.platform
        return Frame(
            project=platform.project.file.name if platform.project else "",
            environment=platform.environment.name,
            mlflow=str(self.about.get("mlflow_pages", "")),
            version=headrace.__version__,
            waiting=len(approvals.gates(platform.database, "waiting")),
        )
