"""What a new user gets wrong about services, gates, the server and what is around it."""

import socket

import pytest

from headrace.ports import free_port

GOOD = """
from kfp import dsl

@dsl.component
def one() -> int:
    return 1

@dsl.pipeline(name="one")
def total() -> int:
    return one().output
"""

PROJECT = """[project]
name = "p"

[pipelines.total]
source = "good.py"

[services.delay]
manifest = "delay.yaml"
rollout = "rollout.yaml"
"""

DELAY = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: delay
spec:
  predictor:
    model:
      modelFormat:
        name: mlflow
      storageUri: models:/flight-delay@champion
"""

ROLLOUT = """apiVersion: headrace.dev/v1alpha1
kind: Rollout
metadata:
  name: delay
spec:
  strategy:
    canary:
      steps:
      - setWeight: 5
      - analysis: {minRequests: 30}
      - setWeight: 25
"""


@pytest.fixture
def user(headrace):
    """A project that is right; each test spoils something."""
    headrace.write(headrace__toml=PROJECT, good__py=GOOD, delay__yaml=DELAY, rollout__yaml=ROLLOUT)
    return headrace


@pytest.mark.parametrize("line", ["run total", "deploy delay --model models:/m/1", "up"])
def test_an_mlflow_that_does_not_answer_is_named(user, line):
    address = f"http://127.0.0.1:{free_port()}"
    user.write(headrace__toml=PROJECT.replace('"p"', f'"p"\nmlflow = "{address}"'))
    ports = ["--port", free_port(), "--gateway-port", free_port()] if line == "up" else []
    user.refused(*line.split(), *ports, says=[f"error: {address}: MLflow does not answer", "`mlflow` in headrace.toml"])


@pytest.mark.parametrize(
    ("file", "right", "wrong", "says"),
    [
        ("rollout.yaml", "setWeight: 25", "setWeight: 250",
         ["rollout.yaml:11: spec.strategy.canary.steps[2].setWeight", "from 0 to 100, not 250"]),
        ("rollout.yaml", "- setWeight: 5", "- setWieght: 5",
         ["rollout.yaml:9: spec.strategy.canary.steps[0].setWieght", 'Did you mean "setWeight"?']),
        ("rollout.yaml", "kind: Rollout", "kind: Rolout", ["rollout.yaml:2: kind: must be Rollout"]),
        ("delay.yaml", "modelFormat:", "modelFormt:",
         ["delay.yaml:8: spec.predictor.model.modelFormt", 'Did you mean "modelFormat"?']),
        ("delay.yaml", "name: mlflow", "name: tensorflow",
         ["delay.yaml:9: spec.predictor.model.modelFormat.name", "Formats: sklearn, xgboost, lightgbm, onnx, mlflow;"]),
        ("delay.yaml", "name: delay", "name: delay: x", ["delay.yaml:4: not valid YAML", "Mend this line"]),
        ("delay.yaml", "name: delay", "name: delays",
         ['delay.yaml: metadata.name: is "delays"', 'calls the service "delay"', "the same name in both"]),
        ("headrace.toml", '"delay.yaml"', '"dely.yaml"',
         ["headrace.toml: services.delay.manifest names dely.yaml", "relative to headrace.toml"]),
    ],
)  # fmt: skip
def test_a_slip_in_a_document_is_pointed_at(user, file, right, wrong, says):
    path = user.folder / file
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    (user.folder / "model").mkdir()
    (user.folder / "model" / "MLmodel").touch()
    user.refused("deploy", "delay", "--model", "model", says=["{folder}/" + says[0], *says[1:]])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("delay", ["the registry has no model models:/flight-delay@champion", "registers one"]),
        ("dely --model m", ['{folder}/headrace.toml: no service is called "dely"', 'Did you mean "delay"?']),
        ("delay --model nowhere", ["nowhere: there is no model here", "a folder with an MLmodel"]),
        ("delay --model models:/m", ["'models:/m' does not name a model version", "models:/NAME/VERSION"]),
        ("delay --model models:/m@champion", ["the registry has no model models:/m@champion", "registers one"]),
    ],
)
def test_a_deployment_of_what_is_not_there_is_refused(user, line, says):
    user.refused("deploy", *line.split(), says=says)
    with user.database() as database:
        assert database.query("SELECT id FROM rollout") == []


def test_services_rollouts_and_gates_that_do_not_exist_are_refused(user):
    user.refused("rollback", "delay", says=['no service is called "delay"', "`headrace deploy` makes one"])
    user.refused("rollouts", "promote", "nope", says=["no rollout has the id nope", "`headrace rollouts list`"])
    user.refused("approvals", "show", "nope", says=["no gate has the id nope", "`headrace approvals list`"])
    user.refused("approvals", "reject", "nope", "-m", "no", says=["no gate has the id nope"])
    user.refused("approvals", "lst", says=["No such command 'lst'", "Did you mean 'list'?"])


def test_a_deployment_needs_a_project(headrace):
    headrace.refused("deploy", "delay", "--model", "m", says=["no project here", "headrace.toml"])


@pytest.mark.parametrize("option", ["--port", "--gateway-port"])
def test_a_port_in_use_is_refused_and_nothing_stays_behind(headrace, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--port": free_port(), "--gateway-port": free_port(), option: port}
        words = [word for pair in ports.items() for word in pair]
        headrace.refused("up", *words, says=[f"{option}: port {port} is in use", f"Choose another with {option}"])
    assert not (headrace.home / "gateway" / "envoy.json").exists()


def test_ports_that_cannot_be_are_refused(headrace):
    port = free_port()
    shared = ["--port", port, "--gateway-port", port]
    headrace.refused("up", *shared, says=[f"--port and --gateway-port are both {port}", "Choose another"])
    headrace.refused("up", "--port", "65536", says=["65536 is not in the range", "--port"])
    headrace.refused("up", "--mlflow-port", "0", says=["0 is not in the range", "--mlflow-port"])


def test_an_envoy_that_cannot_run_is_found_by_the_doctor(headrace):
    program = headrace.folder / "envoy"
    program.write_bytes(b"no program")
    program.chmod(0o755)
    done = headrace("doctor", extra={"HEADRACE_ENVOY": str(program)})
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{program}: Exec format error" in done.stdout
    assert "Envoy runs: Envoy needs glibc 2.31" in done.stdout


def test_an_envoy_that_is_not_there_is_named(headrace):
    ports = ["--port", free_port(), "--gateway-port", free_port()]
    says = ["HEADRACE_ENVOY names /no/envoy, which is no program", "Correct or unset it"]
    headrace.refused("up", *ports, says=says, extra={"HEADRACE_ENVOY": "/no/envoy"})
