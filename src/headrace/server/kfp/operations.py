"""Every operation of the API, in one list. Source: KFP's backend/api/v2beta1/swagger, as the 2.17 client calls it."""

from __future__ import annotations

from headrace.project.wiring import Platform
from headrace.server.kfp.experiments import Experiments
from headrace.server.kfp.pipelines import Pipelines
from headrace.server.kfp.recurring_runs import RecurringRuns
from headrace.server.kfp.runs import Runs
from headrace.server.operations import Operation

PREFIX = "/apis/v2beta1"


def operations(platform: Platform) -> list[Operation]:
    """The operations over one platform. What ends in a verb after a colon stands before what does not."""
    return [
        Operation("GET", f"{PREFIX}/healthz", "Whether the server is up", lambda _: {"multi_user": False}, open=True),
        *Pipelines(platform).operations(PREFIX),
        *Experiments(platform).operations(PREFIX),
        *RecurringRuns(platform).operations(PREFIX),
        *Runs(platform).operations(PREFIX),
    ]
