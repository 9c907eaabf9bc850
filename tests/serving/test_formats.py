"""Every format of models, each made by its own library, loaded and asked."""

import builtins
import json
import shutil
import sys
import warnings

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris

from headrace.errors import DocumentError, HeadraceError
from headrace.serving.runtime.loaders import load

NUMBERS, KINDS = load_iris(return_X_y=True)
FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]


@pytest.fixture(scope="module")
def svc():
    from sklearn.svm import SVC

    return SVC().fit(NUMBERS, KINDS)


@pytest.fixture(scope="module")
def booster():
    import xgboost

    given = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    return xgboost.train(given, xgboost.DMatrix(NUMBERS, KINDS), 5)


@pytest.fixture(scope="module")
def light():
    import lightgbm

    given = {"objective": "multiclass", "num_class": 3, "num_threads": 1, "verbose": -1}
    return lightgbm.train(given, lightgbm.Dataset(NUMBERS, KINDS), 5)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory, svc):
    import skl2onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = skl2onnx.to_onnx(svc, NUMBERS[:1].astype(np.float32), options={"zipmap": False}, target_opset=18)
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    file.write_bytes(made.SerializeToString())
    return file


@pytest.fixture
def ask(serve):
    """What a model at a path answers over V1 and V2."""

    def answers(path, **more):
        client = serve(path, name="iris", **more)
        v1 = client.post("/v1/models/iris:predict", json={"instances": FLOWERS})
        data = [value for row in FLOWERS for value in row]
        body = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": data}]}
        v2 = client.post("/v2/models/iris/infer", json=body)
        assert (v1.status_code, v2.status_code) == (200, 200), (v1.text, v2.text)
        return v1.json()["predictions"], v2.json()["outputs"]

    return answers


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl", "model.pickle", "other.joblib", "model.skops"])
def test_a_scikit_learn_file_is_served_from_its_folder_and_by_its_name(tmp_path, ask, svc, capsys, name):
    if name.endswith(".skops"):
        import skops.io

        skops.io.dump(svc, tmp_path / name)
    else:
        joblib.dump(svc, tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        predictions, outputs = ask(path)
        assert predictions == [1, 1]
        assert outputs == [{"name": "output-0", "shape": [2], "datatype": "INT64", "data": [1, 1]}]
    told = "is a pickle: loading it runs the code that is in it" in capsys.readouterr().err
    assert told is not name.endswith(".skops")


@pytest.mark.parametrize("name", ["model.json", "model.ubj", "model.bst"])
def test_an_xgboost_booster_is_served(tmp_path, ask, booster, name):
    import xgboost

    if name.endswith(".bst"):
        booster.save_model(tmp_path / "model.ubj")
        (tmp_path / "model.ubj").rename(tmp_path / name)
    else:
        booster.save_model(tmp_path / name)
    predictions, _ = ask(tmp_path)
    assert predictions == booster.predict(xgboost.DMatrix(np.array(FLOWERS))).tolist()


@pytest.mark.parametrize("name", ["model.txt", "model.bst"])
def test_a_lightgbm_booster_is_served(tmp_path, ask, light, name):
    light.save_model(tmp_path / name)
    predictions, (output,) = ask(tmp_path)
    assert np.allclose(predictions, light.predict(np.array(FLOWERS)))
    assert output["shape"] == [2, 3]


def test_an_onnx_model_gives_all_of_its_tensors(serve, onnx_file, svc):
    client = serve(onnx_file.parent, name="iris")
    metadata = client.get("/v2/models/iris").json()
    assert (metadata["platform"], metadata["inputs"]) == (
        "onnxruntime_onnx", [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}],
    )  # fmt: skip
    told = client.post("/v1/models/iris:predict", json={"instances": FLOWERS}).json()["predictions"]
    assert [row["label"] for row in told] == [1, 1]
    body = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": FLOWERS[0]}]}
    asked = client.post("/v2/models/iris/infer", json={**body, "outputs": [{"name": "label"}]}).json()
    assert asked["outputs"] == [{"name": "label", "shape": [1], "datatype": "INT64", "data": [1]}]
    body["inputs"][0].update(shape=[1, 3], data=FLOWERS[0][:3])
    refused = client.post("/v2/models/iris/infer", json=body)
    assert (refused.status_code, refused.json()["error"]) == (
        400, "Input X has the shape [1, 3], the model wants [-1, 4]",
    )  # fmt: skip


@pytest.fixture
def logged(tmp_path):
    """Saves a model as MLflow does."""

    def save(flavor, model, **more):
        from mlflow.models import infer_signature

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import importlib

            module = importlib.import_module(f"mlflow.{flavor}")
            signature = more.pop("signature", None) or infer_signature(NUMBERS, KINDS)
            module.save_model(model, path=tmp_path / "model", signature=signature, pip_requirements=[], **more)
        return tmp_path / "model"

    return save


def test_mlflows_flavors_are_served_without_mlflow(logged, ask, booster, light, onnx_file, monkeypatch):
    import onnx
    from lightgbm import LGBMClassifier
    from mlflow.models import infer_signature
    from xgboost import XGBClassifier

    floats = infer_signature(NUMBERS, np.ones((2, 3)))
    models = {
        "xgboost": (booster, infer_signature(NUMBERS, np.ones(2, np.float32))),
        "xgboost ": (XGBClassifier(n_estimators=5, n_jobs=1).fit(NUMBERS, KINDS), None),
        "lightgbm": (light, floats),
        "lightgbm ": (LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(NUMBERS, KINDS), None),
        "onnx": (onnx.load(onnx_file), None),
    }
    real = builtins.__import__

    def no_mlflow(name, *more):
        assert not name.startswith("mlflow"), "mlflow is imported"
        return real(name, *more)

    for flavor, (model, signature) in models.items():
        folder = logged(flavor.strip(), model, signature=signature)
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr(builtins, "__import__", no_mlflow)
            predictions, _ = ask(folder)
        best = [row["label"] if isinstance(row, dict) else int(np.argmax(row)) if isinstance(row, list) else int(row)
                for row in predictions]  # fmt: skip
        assert best == [1, 1], flavor
        shutil.rmtree(folder)


def test_any_other_flavor_is_served_by_mlflow_itself(tmp_path, serve):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    code = tmp_path / "code.py"
    code.write_text(
        "import mlflow\n\n\nclass Double(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input['a'] * 2\n\n\nmlflow.models.set_model(Double())\n"
    )
    table = pd.DataFrame({"a": [1.0, 2.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            tmp_path / "model", python_model=str(code), signature=infer_signature(table, table["a"]),
            pip_requirements=[],
        )  # fmt: skip
        client = serve(tmp_path / "model", name="double")
        told = client.post("/v1/models/double:predict", json={"instances": [{"a": 1.5}, {"a": 4}]})
    assert (told.status_code, told.json()) == (200, {"predictions": [3.0, 8.0]})


def test_more_than_one_file_and_none_are_told(tmp_path, svc):
    joblib.dump(svc, tmp_path / "model.joblib")
    joblib.dump(svc, tmp_path / "model.pkl")
    with pytest.raises(DocumentError, match=r"more than one model file: model\.joblib, model\.pkl"):
        load(tmp_path)
    assert load(tmp_path / "model.pkl").platform == "sklearn"
    with pytest.raises(DocumentError, match="there is no model file") as caught:
        load(tmp_path, format="onnx")
    assert "model.onnx" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "library"),
    [("model.ubj", "xgboost"), ("model.txt", "lightgbm"), ("model.onnx", "onnxruntime")],
)
def test_a_library_that_is_not_installed_is_named_with_the_remedy(tmp_path, monkeypatch, name, library):
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(HeadraceError, match=f"this model needs {library}") as caught:
        load(tmp_path)
    assert caught.value.remedy == f"pip install {library}"


@pytest.mark.parametrize("name", ["model.joblib", "model.ubj", "model.txt", "model.onnx"])
def test_a_file_that_is_no_model_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(HeadraceError, match="the model cannot be loaded: ") as caught:
        load(tmp_path)
    assert caught.value.where == str(tmp_path / name)


def test_columns_that_are_numbers_reach_a_plain_model_without_a_table(tmp_path, serve, logged):
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.5, 0.1, 0.2]})
    model = LinearRegression().fit(table, [1.0, 2.0, 4.0])
    wanted = model.predict(table).tolist()
    folder = logged("sklearn", model, signature=infer_signature(table, np.ones(3)))
    client = serve(folder, name="line")
    assert load(folder).form == "matrix"
    rows = [{"b": row["b"], "a": row["a"]} for row in table.to_dict("records")]
    for instances in (rows, table.to_numpy().tolist()):
        told = client.post("/v1/models/line:predict", json={"instances": instances}).json()["predictions"]
        assert np.allclose(told, wanted)
    columns = [{"name": n, "shape": [3], "datatype": "FP64", "data": table[n].tolist()} for n in ("b", "a")]
    told = client.post("/v2/models/line/infer", content=json.dumps({"inputs": columns})).json()
    assert np.allclose(told["outputs"][0]["data"], wanted)
