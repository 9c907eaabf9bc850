import pytest
from kfp import dsl

from headrace.components import evaluate


@pytest.fixture
def judge(inside, tables, models, tmp_path):
    """Evaluates one of the models; its outputs, and the metrics and the curve that it logged."""

    def evaluated(model, table="flights.parquet", **more):
        metrics = dsl.Metrics(name="metrics", uri=str(tmp_path / "metrics"))
        curve = dsl.ClassificationMetrics(name="curve", uri=str(tmp_path / "curve"))
        outputs = evaluate.python_func(
            model=dsl.Model(name="model", uri=str(models / model)),
            holdout=dsl.Dataset(name="holdout", uri=str(tables / table)),
            label="late", registered_name="delay", metrics=metrics, curve=curve, **more,
        )  # fmt: skip
        return outputs, metrics.metadata, curve.metadata

    return evaluated


@pytest.fixture
def champion(workshop, models):
    """Makes one of the models the champion; its address."""

    def crowned(model):
        version = workshop.registry.register(
            "delay", models / model, key=model, run_name=model, parameters={}, metrics={}, tags={}
        )
        workshop.registry.promoted(version.uri)
        return version.uri

    return crowned


def test_the_first_model_is_judged_by_the_threshold_alone(judge):
    (passed, champion, summary), metrics, curve = judge("good", min_auc=0.9)
    assert (passed, champion) == (True, "")
    assert summary == f"AUC {metrics['auc']:.4f} on 40 rows, at least 0.9 wanted"
    assert metrics["auc"] > 0.95
    assert metrics["holdout_rows"] == 40
    assert 0.9 <= metrics["accuracy"] <= 1
    points = curve["confidenceMetrics"]
    assert points[0]["falsePositiveRate"] == 0
    assert points[-1]["recall"] == 1
    assert all(0 <= point["confidenceThreshold"] <= 1 for point in points)


def test_a_model_below_the_threshold_does_not_pass(judge):
    (passed, _, _), metrics, _ = judge("poor", min_auc=0.9)
    assert (passed, metrics["auc"] < 0.9) == (False, True)


def test_a_model_that_is_worse_than_the_champion_does_not_pass(judge, champion):
    uri = champion("good")
    (passed, named, summary), metrics, _ = judge("poor")
    assert (passed, named) == (False, uri)
    assert metrics["champion_auc"] > metrics["auc"]
    assert summary == (f"AUC {metrics['auc']:.4f}, champion {uri} {metrics['champion_auc']:.4f} on the same 40 rows")


def test_a_model_may_lose_a_little_against_the_champion(judge, champion):
    champion("good")
    assert judge("poor", max_loss=0.9)[0][0] is True


def test_a_model_that_beats_the_champion_passes(judge, champion):
    uri = champion("poor")
    (passed, named, _), metrics, _ = judge("good")
    assert (passed, named) == (True, uri)
    assert metrics["auc"] > metrics["champion_auc"]


def test_a_challenger_is_no_champion(judge, workshop, models):
    workshop.registry.register(
        "delay", models / "good", key="k", run_name="r", parameters={}, metrics={}, tags={}
    )  # fmt: skip
    (passed, named, _), metrics, _ = judge("poor")
    assert (passed, named, "champion_auc" in metrics) == (True, "", False)


def test_a_holdout_that_the_model_cannot_judge_fails(judge):
    with pytest.raises(ValueError, match="distance"):
        judge("good", table="narrow.parquet")
