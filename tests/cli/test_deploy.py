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


def test_the_manifest_names_the_model_and_an_alias_says_where_it_lies(headrace):
    remote = DELAY.replace("models:/m/1", "gs://examples/iris")
    aliases = '[storage.aliases]\n"gs://examples/iris" = "models/iris.joblib"\n'
    headrace.write(headrace__toml=PROJECT + aliases, delay__yaml=remote)
    headrace.refused("deploy", "delay", says=["models/iris.joblib: there is no model here", "[storage.aliases]"])
    (headrace.folder / "models").mkdir()
    (headrace.folder / "models" / "iris.joblib").touch()
    assert headrace("deploy", "delay").returncode == 0
    (rollout,) = headrace.json("rollouts", "list")
    assert rollout["to"]["model"] == str(headrace.folder / "models" / "iris.joblib")


def test_an_address_that_cannot_be_fetched_is_refused_with_the_remedy(headrace):
    headrace.write(headrace__toml=PROJECT, delay__yaml=DELAY.replace("models:/m/1", "hf://team/model"))
    headrace.refused("deploy", "delay", says=["hf://team/model: models cannot be fetched from hf", "[storage.aliases]"])


def test_the_share_of_a_manifest_is_held_until_it_is_promoted(headrace):
    percent = DELAY.replace("predictor: {", "predictor: {canaryTrafficPercent: 10, ")
    headrace.write(headrace__toml=PROJECT, delay__yaml=percent)
    (headrace.folder / "m.joblib").touch()
    assert headrace("deploy", "delay", "--model", "m.joblib").returncode == 0
    (rollout,) = headrace.json("rollouts", "list")
    assert headrace.json("rollouts", "show", rollout["id"])["steps"] == [{"setWeight": 10}, {"pause": {}}]

    headrace.write(delay__yaml=percent.replace("10", "50"))
    assert headrace("deploy", "delay", "--model", "m.joblib").returncode == 0
    (same,) = headrace.json("rollouts", "list")
    assert same["id"] == rollout["id"], "it goes on with the canary that is there"
    assert headrace.json("rollouts", "show", rollout["id"])["steps"] == [{"setWeight": 50}, {"pause": {}}]


def test_check_lists_what_of_a_service_is_not_used(headrace):
    placed = DELAY.replace("predictor: {", "predictor: {nodeSelector: {disk: ssd}, ")
    headrace.write(headrace__toml=PROJECT, delay__yaml=placed)
    for wanted in ("delay", "delay.yaml"):
        told = headrace("check", wanted)
        assert (told.returncode, told.stderr) == (0, "")
        assert "not used: spec.predictor.nodeSelector (line 4)\n    says where and as whom" in told.stdout
    assert [one["field"] for one in headrace.json("check", "delay")] == ["spec.predictor.nodeSelector"]
    headrace.write(delay__yaml=DELAY)
    assert "delay: the embedded engine carries all of it out." in headrace("check", "delay").stdout


def test_late_labels_come_from_a_parquet_file(headrace):
    import pandas as pd

    headrace.write(headrace__toml=PROJECT, delay__yaml=DELAY, not_parquet__parquet="id,value")
    (headrace.folder / "m.joblib").touch()
    headrace("deploy", "delay", "--model", "m.joblib")
    pd.DataFrame({"id": ["a", "b"], "value": [1, 0]}).to_parquet(headrace.folder / "labels.parquet")
    assert headrace.json("labels", "delay", "labels.parquet") == {"received": 2, "known": 0}
    headrace.refused("labels", "delay", "not_parquet.parquet", says=["no Parquet file with the columns id and value"])
    headrace.refused("labels", "dely", "labels.parquet", says=['no service is called "dely"'])
