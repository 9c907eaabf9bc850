"""A manifest's canaryTrafficPercent moves the share of the canary that is there, and starts no second one."""

import json

from headrace.contracts import rollout_document
from headrace.contracts.inference_service import InferenceService
from headrace.control.rollouts import rows
from headrace.control.rollouts.request import Model, request
from headrace.control.rollouts.resplit import resplit
from headrace.store import events

SERVICE = InferenceService("delay", "default", "models:/m/1", "mlflow", "delay", (), 1, 60.0)
DIRECT = rollout_document.parse(rollout_document.DIRECT, "rollout.yaml")


def asked(database, steps, key="one"):
    return request(
        database, service=SERVICE, rollout=steps, model=Model("models:/m/1", "/m"), key=key, actor="user:ann",
        reason="", at=1.0,
    )  # fmt: skip


def moved(database, percent, uri="models:/m/1", settings=None):
    return resplit(
        database, service="delay", model_uri=uri, settings=settings or SERVICE.settings(), percent=percent,
        actor="user:ann", reason="more", at=5.0,
    )  # fmt: skip


def test_the_same_model_gets_another_share_and_begins_no_new_rollout(database):
    first = asked(database, DIRECT.held_at(10))
    with database.transaction() as connection:
        connection.execute("UPDATE rollout SET step = 1, weight = 10, state = 'Paused', message = 'waits'")
    assert moved(database, 50) == first
    (row,) = rows.active(database)
    assert (row.step, row.state, row.message, row.weight) == (0, "Progressing", "", 10)
    assert [(step.kind, step.weight) for step in row.document.steps] == [("setWeight", 50), ("pause", 0)]
    assert moved(database, None) == first
    assert rows.rollout(database, first).document.steps == ()
    told = events.read(database, kinds=["rollout.resplit"])
    assert [(event.actor, event.reason, event.data["weight"]) for event in told] == [
        ("user:ann", "more", 50), ("user:ann", "more", 100),
    ]  # fmt: skip


def test_another_model_other_settings_and_other_rollouts_are_left_alone(database):
    assert moved(database, 50) is None
    asked(database, DIRECT.held_at(10))
    assert moved(database, 50, uri="models:/m/2") is None
    assert moved(database, 50, settings={**SERVICE.settings(), "threads": 2}) is None
    text = json.dumps(
        {
            "apiVersion": "headrace.dev/v1alpha1", "kind": "Rollout",
            "spec": {"strategy": {"canary": {"steps": [{"setWeight": 5}, {"analysis": {}}]}}},
        }
    )  # fmt: skip
    asked(database, rollout_document.parse(text, "rollout.yaml"), key="two")
    assert moved(database, 50) is None
