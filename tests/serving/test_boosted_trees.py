"""HistGradientBoosting as ONNX: bit for bit what scikit-learn says, also for what it has never seen."""

import numpy as np
import pytest

from headrace.serving.runtime import boosted_trees

ROWS = 1500
CATEGORIES = [2, 4]


@pytest.fixture(scope="module")
def table():
    """Six features, two of them with categories, with missing values; and how it scores."""
    random = np.random.default_rng(0)
    made = random.normal(size=(ROWS, 6))
    made[:, 2] = random.integers(0, 60, ROWS) * 2
    made[:, 4] = random.integers(0, 9, ROWS)
    score = made[:, 0] + 2 * np.sin(made[:, 2]) + made[:, 4] % 3
    made[random.random(made.shape) < 0.1] = np.nan
    return made, score


@pytest.fixture(scope="module")
def strange(table):
    """The rows in another order, with categories that nobody knows and no number that is one."""
    random = np.random.default_rng(1)
    made = table[0][random.permutation(ROWS)].copy()
    made[:200, 2] = random.integers(-5, 200, 200)
    made[200:300, 2] += 0.5
    made[300:400, 4] = -random.integers(0, 9, 100)
    made[400:450, 2] = 1e12
    made[450:500, 4] = np.nan
    made[500:520, 0] = np.inf
    return made


def session_of(model):
    import onnx
    import onnxruntime
    import skl2onnx
    from skl2onnx.common.data_types import DoubleTensorType

    conversions, shapes = boosted_trees.converters()
    made = skl2onnx.convert_sklearn(
        model, initial_types=[("X", DoubleTensorType([None, model.n_features_in_]))],
        options={id(model): {"zipmap": False}} if hasattr(model, "classes_") else None, target_opset=18,
        custom_conversion_functions=conversions, custom_shape_calculators=shapes,
    )  # fmt: skip
    boosted_trees.set_opset(made)
    onnx.checker.check_model(made)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("categories", [None, CATEGORIES])
@pytest.mark.parametrize("classes", [[False, True], [0, 1], [3, 5, 9], ["a", "b", "c"]])
def test_a_classifier(table, strange, categories, classes):
    from sklearn.ensemble import HistGradientBoostingClassifier

    numbers, score = table
    labels = np.array(classes)[np.digitize(score, [1.0, 2.0][: len(classes) - 1])]
    model = HistGradientBoostingClassifier(categorical_features=categories, max_iter=10).fit(numbers, labels)
    found, chances = session_of(model).run(None, {"X": strange})
    assert np.array_equal(found.astype(labels.dtype), model.predict(strange))
    assert np.allclose(chances, model.predict_proba(strange), rtol=0, atol=1e-15)


@pytest.mark.parametrize("categories", [None, CATEGORIES])
def test_a_regressor(table, strange, categories):
    from sklearn.ensemble import HistGradientBoostingRegressor

    numbers, score = table
    model = HistGradientBoostingRegressor(categorical_features=categories, max_iter=10).fit(numbers, score)
    (found,) = session_of(model).run(None, {"X": strange})
    assert np.array_equal(found[:, 0], model.predict(strange))
    counted = HistGradientBoostingRegressor(loss="poisson", max_iter=10).fit(numbers, np.exp(score))
    (found,) = session_of(counted).run(None, {"X": strange})
    assert np.allclose(found[:, 0], counted.predict(strange), rtol=1e-14)


def test_trees_that_never_split(strange):
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=3).fit(strange[:20], [0, 1] * 10)
    found, _ = session_of(model).run(None, {"X": strange})
    assert np.array_equal(found, model.predict(strange))


def test_categories_with_fractions_are_refused(table):
    from sklearn.ensemble import HistGradientBoostingClassifier

    numbers, score = table
    model = HistGradientBoostingClassifier(categorical_features=CATEGORIES, max_iter=2).fit(numbers / 4, score > 1)
    with pytest.raises(NotImplementedError, match="its categories are no whole numbers"):
        session_of(model)


def test_classes_with_fractions_are_refused(table):
    from sklearn.ensemble import HistGradientBoostingClassifier

    numbers, score = table
    model = HistGradientBoostingClassifier(max_iter=2).fit(numbers, score > 1)
    model.classes_ = np.array([0.5, 1.5])
    with pytest.raises(NotImplementedError, match="neither whole numbers nor text"):
        session_of(model)
