"""The faster form of a model: kept when it agrees, used, told, and never in the way of a right answer."""

import json
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

from headrace.errors import HeadraceError
from headrace.serving.runtime import boosted_trees, conversion, faster, tables
from headrace.serving.runtime.loaders import load

FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
ONTIME = {"carrier": "AA", "distance": 500, "hour": 7, "dep_delay": 0}
LATE = {"carrier": "UA", "distance": 900, "hour": 8, "dep_delay": 40}


def save(folder, model, table):
    import mlflow.sklearn
    from mlflow.models import infer_signature

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model, folder, serialization_format="cloudpickle", input_example=table[:5], pip_requirements=[],
            signature=infer_signature(table, model.predict(table)),
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def flowers():
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


@pytest.fixture
def svc(tmp_path, flowers):
    from sklearn.svm import SVC

    return save(tmp_path / "svc", SVC().fit(*flowers), flowers[0])


@pytest.fixture(autouse=True)
def quiet():
    """The converter's libraries warn of each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_model_that_agrees_is_kept_used_and_told(svc, serve, capsys):
    outcome = conversion.make(svc)
    assert outcome.kept
    assert "it agrees on 1005 rows within 0.0001" in outcome.why
    client = serve(svc, name="iris")
    metadata = client.get("/v2/models/iris").json()
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["parameters"]["compared_rows"] == "1005"
    assert "the model's faster form is used" in capsys.readouterr().err
    for rows in (FLOWERS, FLOWERS * 500):
        told = client.post("/v1/models/iris:predict", json={"instances": rows})
        assert (told.status_code, told.json()) == (200, {"predictions": [1] * len(rows)})
    metadata = serve(svc, name="iris").get("/v2/models/iris").json()
    assert metadata["outputs"] == [{"name": "output-0", "datatype": "INT64", "shape": [-1]}]
    assert load(svc, faster=False).platform == "sklearn_mlflow"


def test_a_refusal_is_in_the_words_of_the_original_and_needs_it_not(svc):
    original = load(svc, faster=False)
    assert conversion.make(svc).kept
    form = load(svc)
    for row in ([None, 2.8, 4.8, 1.4], [6.8, 2.8, 4.8, None]):
        told = []
        for model in (original, form):
            with pytest.raises(ValueError, match="NaN") as caught:
                model.predict(tables.of_rows([row, FLOWERS[0]], model))
            told.append(str(caught.value))
        assert told[0] == told[1]
    assert "original" not in vars(form.predictor)


def test_the_original_is_there_before_the_first_row_that_needs_it(models, tmp_path):
    folder = shutil.copytree(models.delay, tmp_path / "delay")
    assert conversion.make(folder).kept
    assert load(folder).predictor.original.platform == "sklearn_mlflow"
    assert "original" in vars(load(folder).predictor)


def test_a_table_with_text_has_one_and_what_it_would_read_otherwise_goes_to_the_original(models, tmp_path, serve):
    folder = shutil.copytree(models.delay, tmp_path / "delay")
    assert conversion.make(folder).kept
    client = serve(folder)
    assert client.get("/v2/models/delay").json()["platform"] == "onnxruntime_onnx"
    ask = lambda *rows: client.post("/v1/models/delay:predict", json={"instances": list(rows)})  # noqa: E731
    assert ask(ONTIME, LATE).json() == {"predictions": [0, 1]}
    assert ask({**ONTIME, "dep_delay": None}, LATE).json() == {"predictions": [0, 1]}
    for carrier in (None, "", "nan", "ZZ"):  # as the original: it does not know that carrier
        assert ask({**ONTIME, "carrier": carrier}).status_code == 500
    assert ask({**LATE, "carrier": "AA"}).status_code == 200


@pytest.fixture
def boosted(tmp_path):
    """Gradient boosted trees that split by category, behind an encoding of the text: the flights example's pipeline."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "carrier": random.choice([f"c{i}" for i in range(40)], 2000),
            "origin": random.choice(["EWR", "JFK", None], 2000),
            "hour": random.integers(5, 24, 2000).astype(float),
            "temp": random.choice([np.nan, 10.5, 20.25, 33.1], 2000),
        }
    )
    late = (table["carrier"].str[1:].astype(int) % 3 + table["hour"] / 8 + table["temp"].fillna(0) / 30 > 3).astype(int)
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    boost = HistGradientBoostingClassifier(categorical_features=[0, 1], max_iter=20, random_state=0)
    columns = make_column_transformer((encode, ["carrier", "origin"]), remainder="passthrough")
    model = make_pipeline(columns, boost).fit(table, late)
    return save(tmp_path / "boosted", model, table), model, table


def test_boosted_trees_agree_on_all_rows_with_missing_and_unknown_values_too(boosted):
    folder, model, table = boosted
    outcome = conversion.make(folder)
    assert outcome.kept, outcome.why
    form = load(folder)
    assert form.platform == "onnxruntime_onnx"
    unknown = table.assign(carrier="zz")
    for rows in (table, unknown, table.assign(origin=None, temp=None)):
        given = json.loads(rows.to_json(orient="records"))
        found = form.predict(tables.of_rows(given, form))
        assert np.array_equal(found, model.predict(rows.astype(table.dtypes)))
    assert "original" not in vars(form.predictor)  # none of them needed it


def test_probabilities_are_compared_too(boosted, monkeypatch):
    folder, _, _ = boosted
    ensemble = boosted_trees.ensemble

    def shifted(model):
        model._baseline_prediction = model._baseline_prediction - 1e-3
        try:
            return ensemble(model)
        finally:
            model._baseline_prediction = model._baseline_prediction + 1e-3

    monkeypatch.setattr(boosted_trees, "ensemble", shifted)
    outcome = conversion.make(folder)
    assert not outcome.kept
    assert "rows differ" in outcome.why


def test_missing_numbers_are_refused_as_by_the_original(svc, serve):
    assert conversion.make(svc).kept
    told = serve(svc, name="iris").post("/v1/models/iris:predict", json={"instances": [[1, 2, 3, None]]})
    assert told.status_code == 400
    assert "Input X contains NaN" in told.json()["error"]


def test_a_regressor_gives_its_numbers_with_its_type(tmp_path, flowers, serve):
    from sklearn.linear_model import LinearRegression

    numbers, kinds = flowers
    model = LinearRegression().fit(numbers, kinds)
    folder = save(tmp_path / "line", model, numbers)
    assert conversion.make(folder).kept
    data = [value for row in FLOWERS for value in row]
    body = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP64", "data": data}]}
    (output,) = serve(folder, name="line").post("/v2/models/line/infer", json=body).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP64", [2])
    assert np.allclose(output["data"], model.predict(np.array(FLOWERS)), atol=1e-4)


def test_a_model_that_does_not_convert_stays_as_it_is(tmp_path, flowers):
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neighbors import KernelDensity
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    numbers, kinds = flowers
    own = make_pipeline(FunctionTransformer(np.log1p), HistGradientBoostingClassifier(max_iter=2)).fit(numbers, kinds)
    outcome = conversion.make(save(tmp_path / "own", own, numbers))
    assert (outcome.kept, outcome.why) == (False, "the model holds code that is not scikit-learn's own")
    boosted = HistGradientBoostingClassifier(max_iter=2).fit(numbers, kinds)
    folder = save(tmp_path / "boosted", boosted, numbers)
    outcome = conversion.make(folder)
    assert outcome.kept == (folder / faster.FILE).exists() == (folder / faster.RECORD).exists()
    assert outcome.kept or "does not" in outcome.why
    assert not hasattr(KernelDensity, "predict")


def test_one_that_does_not_agree_is_not_kept(svc, monkeypatch):
    monkeypatch.setattr(faster.Predictor, "run", lambda self, fed: np.zeros(len(fed["X"]), np.int64))
    outcome = conversion.make(svc)
    assert not outcome.kept
    assert "it does not agree: " in outcome.why
    assert not (svc / faster.FILE).exists()


def test_one_that_was_made_from_another_model_is_not_used(svc, capsys):
    assert conversion.make(svc).kept
    (svc / "requirements.txt").write_text("another\n")
    assert load(svc).platform == "sklearn_mlflow"
    assert "its faster form was made from other files; make it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (faster.FILE, b"broken", "the model cannot be loaded"),
        (faster.RECORD, b"[1]", "another version of Headrace"),
        (faster.RECORD, b'{"digest": "x"}', "another version of Headrace"),
    ],
)
def test_a_broken_one_is_not_used(svc, capsys, file, content, words):
    assert conversion.make(svc).kept
    (svc / file).write_bytes(content)
    assert load(svc).platform == "sklearn_mlflow"
    assert words in capsys.readouterr().err


def test_without_rows_there_is_nothing_to_compare_on(models, tmp_path, flowers):
    import pandas as pd

    folder = shutil.copytree(models.iris, tmp_path / "iris")
    with pytest.raises(HeadraceError, match="there are no rows to compare a faster form on") as caught:
        conversion.make(folder)
    assert "--data" in caught.value.remedy
    delay = shutil.copytree(models.delay, tmp_path / "delay")
    pd.DataFrame([ONTIME, LATE] * 50).to_csv(tmp_path / "rows.csv", index=False)
    outcome = conversion.make(delay, data=tmp_path / "rows.csv")
    assert outcome.kept
    # 103 given and 1,000 mixed rows; those with a missing value count where they agree, which is up to the tree.
    assert 1000 < int(re.search(r"it agrees on (\d+) rows", outcome.why)[1]) <= 1103


def test_the_command_says_what_came_of_it(svc):
    command = [sys.executable, "-W", "ignore", "-m", "headrace.serving.runtime.faster"]
    done = subprocess.run([*command, str(svc)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("a faster form is kept: it agrees on ")) == (0, True)
    done = subprocess.run([*command, str(svc / "nowhere")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no MLflow model here" in done.stderr


def test_a_server_makes_one_once_and_tells_of_it(svc, tmp_path, capsys, monkeypatch):
    forms = tmp_path / "forms"
    model = load(svc, forms=forms)
    assert (model.platform, model.parameters["compared_rows"]) == ("onnxruntime_onnx", "1005")
    assert not (svc / faster.FILE).exists()
    assert [folder.name for folder in forms.iterdir()] == [faster.digest(svc)]
    monkeypatch.setattr(subprocess, "run", None)  # what is there is not made again
    assert load(svc, forms=forms).platform == "onnxruntime_onnx"
    assert load(svc, faster=False, forms=forms).platform == "sklearn_mlflow"
    assert load(svc).platform == "sklearn_mlflow"


@pytest.mark.parametrize(
    ("seconds", "spoil", "words"),
    [(0.001, None, "making it took longer than 0.001 s"), (30, b"no pickle", "making it failed: ")],
)
def test_what_cannot_be_made_is_tried_once_and_the_original_serves(svc, tmp_path, monkeypatch, seconds, spoil, words):
    if spoil:
        (svc / "model.pkl").write_bytes(spoil)
    folder, why = faster.made_in(svc, tmp_path / "forms", seconds)
    assert why.startswith(words)
    monkeypatch.setattr(subprocess, "run", None)
    assert faster.made_in(svc, tmp_path / "forms", seconds) == (folder, "")
    assert faster.problem_of(folder, faster.record_of(folder), folder.name).startswith(words)


def test_a_model_that_does_not_agree_says_so_and_serves(tmp_path, flowers, serve):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.svm import SVC

    model = save(tmp_path / "own", make_pipeline(FunctionTransformer(np.log1p), SVC()).fit(*flowers), flowers[0])
    for _ in range(2):
        found = load(model, forms=tmp_path / "forms")
        assert found.platform == "sklearn_mlflow"
        assert found.parameters == {
            "form": "the original", "why": "the model holds code that is not scikit-learn's own",
        }  # fmt: skip


def test_without_an_example_none_is_made(models, tmp_path):
    found = load(models.iris, forms=tmp_path / "forms")
    assert found.platform == "sklearn_mlflow"
    assert found.parameters["why"] == "it has no input example to compare a faster form on"
    assert not (tmp_path / "forms").exists()
