"""Will this flight arrive more than 15 minutes late? From months of flights to a model that takes live traffic."""

from typing import NamedTuple

from kfp import dsl

from headrace.components import approve, deploy, evaluate, register, validate


@dsl.component
def features(
    flights: dsl.Input[dsl.Dataset], weather: dsl.Input[dsl.Dataset], planes: dsl.Input[dsl.Dataset],
    table: dsl.Output[dsl.Dataset],
):  # fmt: skip
    """What is known before departure, and the label. Departure delay and air time are not: they would leak."""
    import pandas as pd

    trips = pd.read_parquet(flights.path).dropna(subset=["arr_delay"])
    fleet = pd.read_parquet(planes.path)[["tailnum", "year", "manufacturer", "seats"]]
    sky = pd.read_parquet(weather.path)[["origin", "time_hour", "temp", "humid", "wind_speed", "precip", "visib"]]
    trips = trips.merge(fleet, on="tailnum", how="left").merge(sky, on=["origin", "time_hour"], how="left")
    made = pd.DataFrame(
        {
            "time_hour": trips["time_hour"],
            "carrier": trips["carrier"],
            "origin": trips["origin"],
            "dest": trips["dest"],
            "hour": (trips["sched_dep_time"] // 100).astype("float64"),
            "weekday": trips["time_hour"].dt.tz_convert("America/New_York").dt.dayofweek.astype("float64"),
            "distance": trips["distance"].astype("float64"),
            "manufacturer": trips["manufacturer"],
            "seats": trips["seats"].astype("float64"),
            "plane_age": (2013 - trips["year"]).astype("float64"),
            **{name: trips[name].astype("float64") for name in ("temp", "humid", "wind_speed", "precip", "visib")},
            "late": (trips["arr_delay"] > 15).astype("int64"),
        }
    )
    made.to_parquet(table.path, index=False)
    table.metadata["rows"] = len(made)


@dsl.component
def split(
    tables: dsl.Input[list[dsl.Dataset]], train_rows: dsl.Output[dsl.Dataset], holdout_rows: dsl.Output[dsl.Dataset],
    holdout_days: int = 14,
) -> NamedTuple("Split", [("data_version", str)]):  # fmt: skip
    """The newest days are held out: tomorrow is what the model has to be good at, not a random sample of the past."""
    import hashlib
    from pathlib import Path
    from typing import NamedTuple

    import pandas as pd

    digest = hashlib.sha256(b"".join(hashlib.sha256(Path(t.path).read_bytes()).digest() for t in tables))
    rows = pd.concat([pd.read_parquet(t.path) for t in tables]).sort_values("time_hour", kind="stable")
    border = rows["time_hour"].max() - pd.Timedelta(days=holdout_days)
    for part, output in ((rows["time_hour"] <= border, train_rows), (rows["time_hour"] > border, holdout_rows)):
        rows[part].drop(columns="time_hour").to_parquet(output.path, index=False)
        output.metadata["rows"] = int(part.sum())
    print(f"{train_rows.metadata['rows']} rows to train on, {holdout_rows.metadata['rows']} after {border}")
    return NamedTuple("Split", [("data_version", str)])(digest.hexdigest()[:16])


@dsl.component
def train(rows: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], learning_rate: float = 0.1, trees: int = 60):
    """Gradient boosted trees behind an encoding of the text, as one scikit-learn Pipeline in MLflow's format."""
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    table = pd.read_parquet(rows.path)
    late = table.pop("late")
    text = ["carrier", "origin", "dest", "manufacturer"]
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    boost = HistGradientBoostingClassifier(
        categorical_features=list(range(len(text))), learning_rate=learning_rate, max_iter=trees, random_state=0
    )
    pipeline = make_pipeline(make_column_transformer((encode, text), remainder="passthrough"), boost).fit(table, late)
    mlflow.sklearn.save_model(
        pipeline,
        model.path,
        serialization_format="cloudpickle",
        signature=mlflow.models.infer_signature(table.head(100), pipeline.predict(table.head(100))),
        input_example=table.head(5),
        pip_requirements=["scikit-learn", "pandas"],
    )
    model.metadata.update(learning_rate=learning_rate, trees=trees, rows=len(table), framework="scikit-learn")


@dsl.pipeline(name="retrain")
def retrain(
    months: list, weather: str, planes: str, suite: str, manifest: str, rollout: str,
    min_auc: float = 0.6, learning_rate: float = 0.1, trees: int = 60,
):  # fmt: skip
    """Validate each month, train, compare with the champion, ask, deploy. What has not changed is not done again."""
    expectations = dsl.importer(artifact_uri=suite, artifact_class=dsl.Artifact).set_display_name("expectations")
    sky = dsl.importer(artifact_uri=weather, artifact_class=dsl.Dataset).set_display_name("weather")
    fleet = dsl.importer(artifact_uri=planes, artifact_class=dsl.Dataset).set_display_name("planes")
    service = dsl.importer(artifact_uri=manifest, artifact_class=dsl.Artifact).set_display_name("service")
    steps = dsl.importer(artifact_uri=rollout, artifact_class=dsl.Artifact).set_display_name("rollout")

    with dsl.ParallelFor(months, name="month") as month:
        flights = dsl.importer(artifact_uri=month, artifact_class=dsl.Dataset).set_display_name("flights")
        checked = validate(data=flights.output, suite=expectations.output)
        table = features(flights=flights.output, weather=sky.output, planes=fleet.output).after(checked)

    parts = split(tables=dsl.Collected(table.outputs["table"]))
    trained = train(rows=parts.outputs["train_rows"], learning_rate=learning_rate, trees=trees)
    judged = evaluate(
        model=trained.outputs["model"],
        holdout=parts.outputs["holdout_rows"],
        label="late",
        registered_name="flight-delay",
        min_auc=min_auc,
        max_loss=0.02,
    ).set_caching_options(False)  # the champion may be another one by now

    with dsl.If(judged.outputs["passed"] == True, name="good-enough"):  # noqa: E712 - KFP builds a condition from it
        version = register(
            model=trained.outputs["model"],
            metrics=judged.outputs["metrics"],
            name="flight-delay",
            data_version=parts.outputs["data_version"],
            holdout=parts.outputs["holdout_rows"],  # its faster form has to agree on them
        ).set_caching_options(False)
        with dsl.If(judged.outputs["champion"] != "", name="replaces-a-champion"):
            agreed = approve(summary=judged.outputs["summary"], model=version.output)
            deploy(model=version.output, manifest=service.output, rollout=steps.output).after(
                agreed
            ).set_caching_options(False)
        with dsl.Else(name="first-model"):
            deploy(model=version.output, manifest=service.output, rollout=steps.output).set_caching_options(False)
