"""The pages and actions of the console as routes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from headrace.errors import HeadraceError
from headrace.project.wiring import Platform
from headrace.server.console import (
    approvals,
    artifacts,
    events,
    home,
    lineage,
    models,
    pipelines,
    rollouts,
    runs,
    services,
)
from headrace.server.console.actions import Action
from headrace.server.console.frame import Frames
from headrace.server.console.pages import Page
from headrace.server.console.rendering import Renderer
from headrace.server.requests import Call, Fields
from headrace.serving.traffic import Traffic

STATIC = Path(__file__).with_name("static")


@dataclass(frozen=True)
class Console:
    """`routes`: every action, and every page with its JSON twin and, where something lives, its stream of changes."""

    routes: list[BaseRoute]
    pages: list[Page]
    renderer: Renderer

    def warm_up(self) -> None:
        """Make what a first request would wait for: compiled templates, and what the pages import."""
        for page in self.pages:
            self.renderer.environment.get_template(page.template)
            if "{" not in page.path:
                # The page itself will tell of it.
                with contextlib.suppress(HeadraceError):
                    page.data(Call({}, Fields(), Fields()))


def console(
    platform: Platform,
    about: Mapping[str, Any],
    stopping: Callable[[], bool],
    renderer: Renderer,
    traffic: Traffic | None,
) -> Console:
    """The console of a server."""
    served, moves = services.Services(platform, about, traffic), rollouts.Rollouts(platform, traffic)
    flows = pipelines.Pipelines(platform)
    pages: list[Page] = [
        *home.pages(platform, served),
        *artifacts.pages(platform),
        *runs.pages(platform),
        *pipelines.pages(flows),
        *models.pages(platform, about),
        *services.pages(served),
        *rollouts.pages(moves),
        *approvals.pages(platform),
        *lineage.pages(platform),
        *events.pages(platform),
    ]
    actions: list[Action] = [
        *runs.actions(platform),
        *pipelines.actions(flows),
        *services.actions(served),
        *moves.actions(),
        *approvals.actions(platform),
    ]
    frames = Frames(platform, about)
    found: list[BaseRoute] = [Mount("/static", StaticFiles(directory=STATIC), name="static")]
    found += [*artifacts.routes(platform), pipelines.upload_route(flows)]
    found += [action.route(renderer, frames) for action in actions]
    for page in pages:
        found += page.routes(renderer, frames, platform.home.database, stopping)
    return Console(found, pages, renderer)
