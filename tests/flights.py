"""The flights example as tests use it: its documents, and the first steps of its story."""

import shutil

from headrace.cli.demo.replay import flights_of
from headrace.cli.demo.stage import month_file

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: delay}
spec: {predictor: {model: {modelFormat: {name: mlflow}, storageUri: "models:/delay@champion"}}}
"""
ROLLOUT = """\
apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata: {name: delay}
spec: {strategy: {canary: {steps: [{setWeight: 5}, {pause: {}}]}}}
"""


def serve_january(stage, replay):
    """Make the project, push January, and send April's flights to the model that comes of it."""
    stage.headrace("init", "flights", "--template", "flights", "--remote", "flights.git")
    stage.up()
    stage.take_away(range(2, 13))
    stage.commit("January")
    stage.push()
    stage.wait("the first model serves", lambda: _serving(stage), seconds=180)
    data = stage.template / "data"
    files = (data / month_file(4), data / "weather.parquet", data / "planes.parquet")
    replay.start(flights_of(stage.template, *files))
    stage.wait("requests are answered", lambda: len(replay.sent) > 10 or None, seconds=60)


def push_april(stage):
    """The commit of April's data, pushed."""
    shutil.copy(stage.template / "data" / month_file(4), stage.project / "data")
    commit = stage.commit("April")
    stage.push()
    return commit


def _serving(stage):
    return [service for service in stage.get("/services") if service["stable"]] or None
