DELAY = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: delay}
spec: {predictor: {sklearn: {storageUri: models:/m/1}}}
"""
PROJECT = '[project]\nname = "p"\n[services.delay]\nmanifest = "delay.yaml"\n'


def test_a_deployment_waits_for_a_server_and_remembers_the_whole_path_of_the_model(headrace):
    headrace.write(headrace__toml=PROJECT, delay__yaml=DELAY)
    model = headrace.folder / "model"
    model.mkdir()
    (model / "MLmodel").touch()
    asked = headrace("deploy", "delay", "--model", "model", "-m", "first try")
    (rollout,) = headrace.json("rollouts", "list")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert f"Rollout {rollout['id']} of delay to {model} has been asked for." in asked.stdout
    assert "No server runs here: `headrace up` carries it out." in asked.stdout
    assert (rollout["to"]["model"], rollout["reason"], rollout["state"]) == (str(model), "first try", "Progressing")

    aborted = headrace.json("rollouts", "abort", rollout["id"], "-m", "not yet")
    assert aborted["state"] == "Aborted"
    assert headrace.json("rollouts", "show", rollout["id"]) == aborted
    late = headrace("rollouts", "promote", rollout["id"])
    assert (late.returncode, "the rollout is Aborted already" in late.stderr) == (1, True)
