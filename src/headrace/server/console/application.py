"""The pages and actions of the console as routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

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
from headrace.serving.traffic import Traffic

STATIC = Path(__file__).with_name("static")


def routes(
    platform: Platform,
    about: Mapping[str, Any],
    stopping: Callable[[], bool],
    renderer: Renderer,
    traffic: Traffic | None,
) -> list[BaseRoute]:
    """Every action, and every page with its JSON twin and, where something lives, its stream of changes."""
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
    return found
