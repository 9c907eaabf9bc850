"""The split that the stored rows ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.control.rollouts.rows import RolloutRow, Service
from headrace.serving.gateway.model import CANARY, STABLE, Arm, Mirror, Route
from headrace.serving.revisions import Revision


def routes(
    services: Sequence[Service],
    active: Sequence[RolloutRow],
    revisions: Mapping[str, Revision],
    spares: Mapping[str, Revision],
) -> list[Route]:
    """One route a service. A new revision whose server is not ready gets nothing.

    `spares` are the revisions that were stable before others, by the others' id, while these are watched.
    """
    rollouts = {row.service: row for row in active}
    return [_route(service, rollouts.get(service.name), revisions, spares) for service in services]


def _route(
    service: Service, row: RolloutRow | None, revisions: Mapping[str, Revision], spares: Mapping[str, Revision]
) -> Route:
    stable = revisions.get(service.stable or "")
    target = revisions.get(row.to_revision) if row else None
    is_new = bool(stable and target and target.id != stable.id)
    canary = target if is_new and target and target.port and target.state == "ready" else None
    weight = row.weight if row and canary else 0
    arms: list[Arm] = []
    # Nobody waits for a server that is not being started.
    if stable and stable.port and (canary or stable.state != "failed"):
        before = spares.get(stable.id)
        arms.append(_arm(stable, 100 - weight, STABLE, _arm(before, 0, STABLE) if before else None))
    mirrored = row.document.mirrored(row.step) if row and canary else 0
    if row and canary and not mirrored:
        # Who asks for a preview wants to see that, and nothing else.
        other = _arm(stable, 0, STABLE) if stable and stable.port and row.document.strategy != "blueGreen" else None
        arms.append(_arm(canary, weight, CANARY, other))
    shown = stable or target
    settings = shown.settings if shown else {}
    document = row.document if row and canary else None
    return Route(
        service=service.name,
        namespace=service.namespace,
        model_name=settings.get("model_name") or service.name,
        arms=tuple(arms),
        timeout_seconds=settings.get("timeout_seconds", 60.0),
        sticky=document.sticky if document else None,
        matches=document.matched(row.step) if document and row else (),
        preview=_arm(canary, 0, CANARY) if document and canary and document.strategy == "blueGreen" else None,
        mirror=Mirror(_arm(canary, 0, CANARY), mirrored) if canary and mirrored else None,
    )


def _arm(revision: Revision, weight: int, name: str, fallback: Arm | None = None) -> Arm:
    assert revision.port is not None
    # A server that speaks gRPC says so in its revision; one that does not has no such port.
    return Arm(revision.id, revision.port, weight, revision.grpc_port, name, fallback)
