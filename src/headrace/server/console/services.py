"""Services: what serves, how it does, what came before; and a form that asks the model."""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from headrace.clock import rfc3339
from headrace.control.monitoring.drift import Drift, Drifts
from headrace.control.rollouts import actions as acts
from headrace.control.rollouts import queries
from headrace.errors import HeadraceError, UsageError
from headrace.governance.rbac import Role
from headrace.project.deploy import deploy
from headrace.project.lineage_facts import VERSION
from headrace.project.wiring import Platform
from headrace.server.console.actions import Action, Done, Submission
from headrace.server.console.choices import Choice, Choices
from headrace.server.console.pages import Page
from headrace.server.json_text import json_text
from headrace.server.operations import TEXT
from headrace.server.requests import Call
from headrace.serving import payload_log, revisions
from headrace.serving.payload_log import LabelCounts
from headrace.serving.traffic import Figures, Point, Traffic

TRY_SECONDS = 15.0
_MOST_ANSWER = 64 * 1024
_MOST_TRIED = 100
_RECENT = 20
# Labels are those of so many of the newest predictions.
_LABELS = 20_000


@dataclass(frozen=True)
class ServiceNow:
    """A service as it is now. `traffic`: all its revisions in the last minute, None when nothing counts; `labels`: how
    the newest predictions of the stable revision turned out; `drift`: its newest predictions beside its first ones."""

    name: str
    namespace: str
    stable: Mapping[str, Any] | None
    previous: Mapping[str, Any] | None
    rollout: Mapping[str, Any] | None
    since: str
    traffic: Figures | None
    history: list[Point]
    labels: LabelCounts | None
    drift: Drift | None


@dataclass(frozen=True)
class ServicesPage:
    services: list[ServiceNow]


@dataclass(frozen=True)
class RevisionRow:
    """A revision with what it did and how it came and went. `role`: stable, previous, canary, or ""."""

    id: str
    number: int
    model: str
    state: str
    role: str
    message: str
    created_at: str
    traffic: Figures | None
    labels: LabelCounts | None
    rollout: Mapping[str, Any] | None


@dataclass(frozen=True)
class Part:
    """An input or output of a model: name, the Open Inference Protocol's datatype, shape (-1 is any length), and
    whether every row wants a value."""

    name: str
    datatype: str
    shape: list[int]
    required: bool


@dataclass(frozen=True)
class Tried:
    """A request that somebody sent by the form, and its answer."""

    body: str
    status: int
    seconds: float
    answer: str
    revision: str
    arm: str
    prediction: str


@dataclass(frozen=True)
class ServicePage:
    """`example`: a body to ask the model with. `inputs` and `outputs` are those of the model that serves. `deployable`:
    whether the project's file names the service; `choices`: the versions of the model that serves."""

    service: ServiceNow
    revisions: list[RevisionRow]
    rollouts: list[Mapping[str, Any]]
    example: str
    tried: Tried | None
    inputs: list[Part]
    outputs: list[Part]
    deployable: bool
    choices: list[Choice]


class Services:
    """The data of the pages and what their forms do."""

    def __init__(self, platform: Platform, about: Mapping[str, Any], traffic: Traffic | None) -> None:
        self.platform = platform
        self.database = platform.database
        self.gateway = str(about.get("gateway", ""))
        self.traffic = traffic
        self.choices = Choices(platform.registry)
        self.drifts = Drifts(platform.home, platform.clock)
        self._tried: OrderedDict[str, Tried] = OrderedDict()

    def all(self) -> list[ServiceNow]:
        """Every service, by name."""
        return [self.now(told) for told in queries.list_services(self.database)]

    def now(self, told: Mapping[str, Any], labels: Mapping[str, LabelCounts] | None = None) -> ServiceNow:
        """A service (as the API tells it) with what is measured of it; `labels`: where its revisions' are known."""
        labels = self._labels(told["name"]) if labels is None else labels
        rollout = queries.rollout_json(self.database, told["rollout"]) if told["rollout"] else None
        # Mirrored requests are nobody's, so a shadow's do not count.
        names = [one["id"] for one in (told["stable"], told["previous"], (rollout or {}).get("to")) if one]
        stable = told["stable"]["id"] if told["stable"] else ""
        return ServiceNow(
            name=told["name"], namespace=told["namespace"], stable=told["stable"], previous=told["previous"],
            rollout=rollout, since=told["updated_at"],
            traffic=self.traffic.now(names) if self.traffic else None,
            history=self.traffic.history(names) if self.traffic else [],
            labels=labels.get(stable), drift=self._drift(told["name"], stable) if stable else None,
        )  # fmt: skip

    def listed(self, call: Call) -> ServicesPage:
        return ServicesPage(self.all())

    def shown(self, call: Call) -> ServicePage:
        told = queries.service_json(self.database, call.path["service"])
        labels = self._labels(told["name"])
        service = self.now(told, labels)
        found = queries.list_rollouts(self.database, service=service.name, limit=_RECENT)
        latest = {rollout["to"]["id"]: rollout for rollout in reversed(found)}
        roles = {one["id"]: role for role, one in (("previous", service.previous), ("stable", service.stable)) if one}
        if service.rollout:
            roles.setdefault(service.rollout["to"]["id"], "new")
        kept = revisions.of_service(self.database, service.name)[:_RECENT]
        rows = [
            RevisionRow(
                one.id, one.number, one.model_uri, one.state, roles.get(one.id, ""), one.message,
                rfc3339(one.created_at), self.traffic.now([one.id]) if self.traffic else None, labels.get(one.id),
                latest.get(one.id),
            )
            for one in kept
        ]  # fmt: skip
        stable = next((one for one in kept if roles.get(one.id) == "stable"), None)
        named = VERSION.fullmatch(stable.model_uri) if stable else None
        inputs, outputs = _parts(stable.model_path) if stable else ([], [])
        return ServicePage(
            service, rows, list(found), _example(stable.model_path) if stable else "",
            self._tried.get(call.query.text("tried")), inputs, outputs,
            bool(self.platform.project and service.name in self.platform.project.file.services),
            self.choices.of(named[1]) if named else [],
        )  # fmt: skip

    def _labels(self, service: str) -> dict[str, LabelCounts]:
        return payload_log.label_counts(self.platform.home, service, newest=_LABELS)

    def _drift(self, service: str, revision: str) -> Drift:
        return self.drifts.of(service, revision, revisions.get(self.database, revision).created_at)

    def roll_back(self, sent: Submission) -> Done:
        rollout = acts.rollback(
            self.database, sent.path["service"], actor=sent.who.name, reason=sent.reason,
            at=self.platform.clock.now(),
        )  # fmt: skip
        return Done(f"/rollouts/{rollout}", "The revision before is put back.")

    def deploy(self, sent: Submission) -> Done:
        model = sent.fields.get("model", "").strip()
        rollout, uri = deploy(
            self.platform, sent.path["service"], model, actor=sent.who.name, reason=sent.reason
        )  # fmt: skip
        return Done(f"/rollouts/{rollout}", f"A rollout to {uri} has been asked for.")

    def ask(self, sent: Submission) -> Done:
        """Send a request through the gateway, and show the answer on the service's page."""
        import httpx

        service = queries.service_json(self.database, sent.path["service"])["name"]
        body = sent.fields.get("body", "")
        try:
            json.loads(body)
        except ValueError as error:
            raise UsageError(f"the body is not JSON: {error}", remedy='Send {"instances": [{…}]}.') from error
        if not self.gateway:
            raise UsageError("this server has no gateway", remedy="Start it with `headrace up`.")
        try:
            answer = httpx.post(
                f"{self.gateway}/v1/models/{service}:predict", content=body, timeout=TRY_SECONDS,
                headers={"content-type": "application/json"},
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise HeadraceError(f"the gateway does not answer: {error}", remedy="Look at the service.") from error
        told = answer.headers
        token = secrets.token_urlsafe(9)
        self._tried[token] = Tried(
            body, answer.status_code, answer.elapsed.total_seconds(), _indented(answer.text[:_MOST_ANSWER]),
            told.get("x-headrace-revision", ""), told.get("x-headrace-arm", ""),
            told.get("x-headrace-prediction-id", ""),
        )  # fmt: skip
        while len(self._tried) > _MOST_TRIED:
            self._tried.popitem(last=False)
        return Done(f"/services/{service}?tried={token}#try", f"The model answered {answer.status_code}.")


def pages(services: Services) -> list[Page]:
    """The pages below /services."""
    return [
        Page("/services", "services.html", services.listed, live=True, moving=True),
        Page("/services/{service}", "service.html", services.shown, {"tried": TEXT}, live=True, moving=True),
    ]


def actions(services: Services) -> list[Action]:
    """What can be done with a service."""
    return [
        Action("/services/{service}/rollback", services.roll_back, (Role.OPERATOR, Role.APPROVER)),
        Action("/services/{service}/deploy", services.deploy, (Role.OPERATOR,)),
        Action("/services/{service}/try", services.ask, (Role.VIEWER,)),
    ]


def _example(folder: str) -> str:
    """A request's body from the model's input example; "" when it has none."""
    from headrace.serving.runtime.warm_up import example_of

    try:
        rows = example_of(Path(folder))
    except (HeadraceError, OSError, ValueError):
        return ""
    return json_text({"instances": rows[:1]}, indent=2) if rows else ""


@lru_cache(maxsize=64)
def _parts(folder: str) -> tuple[list[Part], list[Part]]:
    """The inputs and outputs in an MLflow model's signature; none of another model, or without one."""
    from headrace.serving.runtime.loaders.mlflow_folder import signature_of

    try:
        told = signature_of(Path(folder))
    except HeadraceError:
        return [], []
    inputs = [Part(one.name, one.datatype, [-1, 1], one.required) for one in told.columns]
    inputs += [Part(one.name, one.datatype, one.shape, True) for one in told.inputs if not told.columns]
    return inputs, [Part(one.name, one.datatype, one.shape, True) for one in told.outputs]


def _indented(text: str) -> str:
    try:
        return json_text(json.loads(text), indent=2)
    except ValueError:
        return text
