import warnings

import pytest

from headrace.catalog import saved_model
from headrace.errors import HeadraceError


def test_a_saved_model_comes_back_as_the_estimator_that_it_was(tmp_path):
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    numbers = np.eye(4)
    model = LogisticRegression().fit(numbers, [0, 1, 0, 1])
    with warnings.catch_warnings():
        # MLflow warns of its own type hints while it is imported.
        warnings.simplefilter("ignore")
        import mlflow.sklearn

        mlflow.sklearn.save_model(model, tmp_path / "model", pip_requirements=["scikit-learn"])
        loaded = saved_model.load(tmp_path / "model")
    assert loaded.predict_proba(numbers).tolist() == model.predict_proba(numbers).tolist()


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(HeadraceError, match=f"{tmp_path}: the model cannot be loaded"):
        saved_model.load(tmp_path)
