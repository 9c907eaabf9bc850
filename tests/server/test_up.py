"""The real server as a process, with a real Envoy and MLflow: what it starts, drives, leaves behind and takes over."""

import json
import signal

import httpx
import pytest

from headrace.ports import free_port

PATIENCE_SECONDS = 90

# `ask` waits for a person; `wait` says that it has begun, and waits for a file.
PIPELINE = """
from kfp import dsl

@dsl.container_component
def ask():
    return dsl.ContainerSpec(image="kfp://human-input", command=["wait"], args=['{"question": "Go on?"}'])

@dsl.component
def wait(file: str) -> str:
    import pathlib, time
    with open(file + ".begun", "a") as stream:
        stream.write("begun ")
    while not pathlib.Path(file + ".go").exists():
        time.sleep(0.05)
    return "went"

@dsl.pipeline(name="asks")
def asks() -> str:
    asked = ask()
    return wait(file="FOLDER/asked").after(asked).output

@dsl.pipeline(name="waits")
def waits(file: str) -> str:
    return wait(file=file).output
"""


@pytest.fixture(autouse=True)
def pipelines(tmp_path):
    (tmp_path / "p.py").write_text(PIPELINE.replace("FOLDER", str(tmp_path)))


def _post(up, path, body):
    answer = httpx.post(f"{up.api}/apis/headrace/v1{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_server_answers_drives_runs_and_leaves_nothing_behind(up, until):
    up.start()
    health = httpx.get(f"{up.api}/healthz").json()
    assert (health["status"], health["home"], health["gateway"]) == ("ok", str(up.home), up.gateway)
    nobody = httpx.get(f"{up.gateway}/v1/models/delay")
    assert (nobody.status_code, nobody.json()) == (404, {"error": "No service answers here."})

    second = up.command("up", "--port", str(free_port()), "--gateway-port", str(free_port()))
    _, said = second.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 2
    assert f"a server runs here already: process {up.process.pid}, port {up.ports['--port']}" in said
    assert "stop it, or set HEADRACE_HOME" in said

    (up.folder / "asked.go").touch()
    paused = up.json("run", "p.py:asks", code=3)
    assert "warm_parent" not in up.family()
    (gate,) = httpx.get(f"{up.api}/apis/headrace/v1/gates").json()
    _post(up, f"/gates/{gate['id']}:approve", {"actor": "ann"})
    resumed = up.json("runs", "resume", paused["run_id"])
    assert (resumed["state"], resumed["outputs"]) == ("SUCCEEDED", {"Output": "went"})
    assert "warm_parent" in up.family()
    assert until(lambda: [line for line in up.said if "run.succeeded" in line and paused["run_id"] in line])

    # MLflow has begun to serve: what starts late must end, too.
    until(lambda: _answers(f"http://127.0.0.1:{up.ports['--mlflow-port']}/health"))
    assert set(up.family()) == {"envoy", "mlflow server", "warm_parent"}
    assert up.end() == 0
    assert up.said[-1] == "Headrace has ended.\n"
    assert up.left() == []
    assert not (up.home / "gateway" / "envoy.json").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{up.gateway}/v1/models/delay")


def test_a_server_that_was_killed_is_taken_over_by_the_next(up, until):
    up.start()
    envoy = up.family()["envoy"]
    left_alone = up.command("run", "p.py:waits", "-p", f"file={up.folder / 'alone'}")
    until((up.folder / "alone.begun").exists)
    followed = up.command("run", "p.py:waits", "-p", f"file={up.folder / 'followed'}")
    until((up.folder / "followed.begun").exists)
    left_alone.send_signal(signal.SIGINT)
    head, said = left_alone.communicate(timeout=PATIENCE_SECONDS)
    run_id = head.split()[1]
    assert left_alone.returncode == 130
    assert f"Run {run_id} is not finished: the server goes on with it" in said

    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    assert envoy in up.left()
    assert httpx.get(f"{up.gateway}/v1/models/delay").status_code == 404
    # The other run is watched: its terminal takes it over, server or not.
    (up.folder / "followed.go").touch()
    head, _ = followed.communicate(timeout=PATIENCE_SECONDS)
    assert followed.returncode == 0
    assert 'SUCCEEDED\n  Output = "went"' in head

    up.start()
    assert json.loads((up.home / "gateway" / "envoy.json").read_text())["pid"] == envoy.pid
    (up.folder / "alone.go").touch()
    ended = until(lambda: _ended(up, run_id))
    assert (ended["state"], ended["outputs"]) == ("SUCCEEDED", {"Output": "went"})
    # Both tasks outlived the server that had started them: neither began again.
    assert [(up.folder / f"{name}.begun").read_text() for name in ("alone", "followed")] == ["begun ", "begun "]
    assert up.end() == 0
    assert up.left() == []


def test_a_server_for_a_team_is_reached_by_its_name_and_with_a_token(up):
    token = up.json("tokens", "create", "mary", "--role", "admin")["token"]
    up.start("--host", "0.0.0.0", "--name", "headrace.example.com", "--sign-in")
    named, bearer = {"host": "headrace.example.com"}, {"authorization": f"Bearer {token}"}
    services = f"{up.api}/apis/headrace/v1/services"
    assert httpx.get(f"{up.api}/healthz", headers=named).json().keys() == {"status", "version"}
    assert httpx.get(services, headers=named).status_code == 401
    assert httpx.get(services, headers=bearer | named).json() == []
    assert httpx.get(services, headers=bearer | {"host": "0.0.0.0"}).status_code == 400
    up.json("tokens", "revoke", "mary")
    assert httpx.get(services, headers=bearer | named).status_code == 401
    assert up.end() == 0


def _answers(address):
    try:
        return httpx.get(address).status_code == 200
    except httpx.TransportError:
        return False


def _ended(up, run_id):
    run = httpx.get(f"{up.api}/apis/headrace/v1/runs/{run_id}").json()
    return run if run["finished_at"] else None
