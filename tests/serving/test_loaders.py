import pickle
import shutil

import numpy as np
import pytest
import yaml

from headrace.errors import DocumentError, HeadraceError
from headrace.serving.runtime.loaders import Column, load
from headrace.serving.runtime.models import Inputs


@pytest.fixture
def changed(models, tmp_path):
    """A copy of the delay model whose description was changed."""

    def copy(change):
        folder = shutil.copytree(models.delay, tmp_path / "model")
        told = yaml.safe_load((folder / "MLmodel").read_text())
        change(told)
        (folder / "MLmodel").write_text(yaml.safe_dump(told))
        return folder

    return copy


def test_the_columns_come_from_the_signature(models):
    model = load(models.delay)
    assert model.columns == (
        Column("carrier", "string", "BYTES", True),
        Column("distance", "float64", "FP64", True),
        Column("hour", "int64", "INT64", True),
        Column("dep_delay", "float64", "FP64", False),
    )
    assert model.outputs == (("output-0", "INT64", [-1]),)


def test_a_signature_of_one_tensor_names_no_columns(models):
    model = load(models.iris)
    assert model.columns == ()
    assert model.outputs == (("output-0", "INT64", [-1]),)
    assert model.predict(Inputs({"": np.array([[6.8, 2.8, 4.8, 1.4]])}, 1)).tolist() == [1]


def test_a_model_without_a_signature_is_asked_itself(changed):
    model = load(changed(lambda told: told.pop("signature")))
    assert [column.name for column in model.columns] == ["carrier", "distance", "hour", "dep_delay"]
    assert model.outputs == (("output-0", "INT64", [-1]),)
    assert model.predictor.n_features_in_ == 4


def test_named_outputs_keep_their_name_and_type(changed):
    outputs = '[{"type": "string", "name": "carrier"}, {"type": "double", "name": "risk"}]'
    model = load(changed(lambda told: told["signature"].update(outputs=outputs)))
    assert model.outputs == (("carrier", "BYTES", [-1]), ("risk", "FP64", [-1]))


def test_a_folder_without_a_model_says_which_file_is_missing(tmp_path):
    with pytest.raises(DocumentError, match="there is no MLflow model here: No such file") as caught:
        load(tmp_path)
    assert caught.value.file == str(tmp_path / "MLmodel")


@pytest.mark.parametrize("text", ["", "[1, 2]", "flavors: [", "flavors: sklearn", "flavors: {sklearn: {}}"])
def test_a_broken_description_names_its_file(tmp_path, text):
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load(tmp_path)
    assert caught.value.file == str(tmp_path / "MLmodel")


def test_a_model_without_a_flavor_that_can_be_served_is_refused_with_what_there_is(changed):
    with pytest.raises(DocumentError, match="no flavor that can be served, only spark") as caught:
        load(changed(lambda told: told.update(flavors={"spark": {}})))
    assert "python_function" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(1)[:-1]])
def test_a_file_that_cannot_be_loaded_is_named_with_the_reason(models, tmp_path, content):
    folder = shutil.copytree(models.delay, tmp_path / "model")
    (folder / "model.pkl").write_bytes(content)
    with pytest.raises(HeadraceError, match="the model cannot be loaded: ") as caught:
        load(folder)
    assert caught.value.where == str(folder / "model.pkl")


def test_a_missing_file_is_named(models, tmp_path):
    folder = shutil.copytree(models.delay, tmp_path / "model")
    (folder / "model.pkl").unlink()
    with pytest.raises(HeadraceError, match="the model cannot be loaded: FileNotFoundError"):
        load(folder)


def test_types_that_skops_was_not_told_to_trust_are_refused(models, tmp_path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    folder = shutil.copytree(models.iris, tmp_path / "model")
    skops.io.dump(FunctionTransformer(shutil.rmtree), folder / "model.skops")
    with pytest.raises(HeadraceError, match="UntrustedTypesFoundException"):
        load(folder)
