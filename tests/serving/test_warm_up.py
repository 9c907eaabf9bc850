import dataclasses
import shutil

from headrace.serving.runtime.loaders import load
from headrace.serving.runtime.warm_up import EXAMPLE, warm_up


class Counting:
    def __init__(self, predictor):
        self.predictor = predictor
        self.calls = []

    def predict(self, table):
        self.calls.append(table)
        return self.predictor.predict(table)


def test_a_model_predicts_one_row_of_its_input_example_before_anybody_asks(models):
    counting = Counting(load(models.delay).predictor)
    model = dataclasses.replace(load(models.delay), predictor=counting)
    assert warm_up(model, models.delay) == ""
    assert {len(columns["carrier"]) for columns in counting.calls} == {1}


def test_a_model_without_an_example_stays_cold(models, tmp_path):
    folder = shutil.copytree(models.delay, tmp_path / "model")
    (folder / EXAMPLE).unlink()
    counting = Counting(load(folder).predictor)
    assert warm_up(dataclasses.replace(load(folder), predictor=counting), folder) == ""
    assert counting.calls == []


def test_a_model_that_cannot_predict_its_example_is_told_and_serves_all_the_same(models):
    class Broken:
        def predict(self, table):
            raise RuntimeError("no")

    told = warm_up(dataclasses.replace(load(models.delay), predictor=Broken()), models.delay)
    assert told == "the model cannot predict its own input example: RuntimeError: no"
