"""A home that an earlier Headrace made is opened by this one: what it has applied stays as it was, byte for byte."""

from headrace.project.wiring import PACKAGES
from headrace.store.migrations import find

# A new one is a file of its own, and is added here: one that has been applied somewhere is refused once it differs.
KNOWN = {
    "headrace.store/0001_events.sql": "5e18ace6431c95dc",
    "headrace.store/0002_event_actor.sql": "38dd51b43a6c5861",
    "headrace.governance/0001_gates.sql": "84f80cf99dda277c",
    "headrace.governance/0002_expiry.sql": "98cfd586743b79cd",
    "headrace.governance/0003_tokens.sql": "74b2fddc21b7ec33",
    "headrace.runs/0001_runs.sql": "b778989cba9c303f",
    "headrace.runs/0002_options.sql": "a1bde8b17ffd649c",
    "headrace.runs/0003_api.sql": "54ae5da15da4ea57",
    "headrace.runs/0004_browse.sql": "775c5d39510e4366",
    "headrace.runs/0005_uploaded_pipelines.sql": "5aaa7929125f3658",
    "headrace.serving/0001_serving.sql": "5ef140f18299a47c",
    "headrace.serving/0002_grpc.sql": "ccdc7e99ca7aefaa",
    "headrace.control/0001_rollouts.sql": "8edbb2685141e50c",
    "headrace.control/0002_triggers.sql": "101f62668473ba05",
    "headrace.control/0003_paused_by.sql": "e12063d1258f7871",
    "headrace.control/0004_mlflow_runs.sql": "1780e93706042b65",
    "headrace.control/0005_strategies.sql": "4c2d7ae900fd0caa",
    "headrace.control/0006_users.sql": "1c174e799da6fc62",
    "headrace.control/0007_rollout_latency.sql": "7b7043d3d3c5fcfb",
}


def test_no_migration_that_is_known_has_changed():
    assert {f"{one.package}/{one.name}": one.digest[:16] for package in PACKAGES for one in find(package)} == KNOWN
