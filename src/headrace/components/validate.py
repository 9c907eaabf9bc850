"""Check a table before anything is made of it."""

from kfp import dsl

import headrace
from headrace.components import PYTHON_IMAGE


@dsl.component(base_image=PYTHON_IMAGE, packages_to_install=[f"headrace=={headrace.__version__}"])
def validate(
    data: dsl.Input[dsl.Dataset], suite: dsl.Input[dsl.Artifact], metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:  # fmt: skip
    """Check a Parquet or CSV table against a Great Expectations suite (JSON); the task fails when it does not hold.

    Returns the verdict in a sentence. `report` is a page with every expectation.
    """
    from pathlib import Path

    import great_expectations  # noqa: F401 - named here, so that it is imported once and not by each task
    import pandas as pd

    from headrace.contracts.verdict import Outcome
    from headrace.quality.validation import load_suite
    from headrace.quality.validation import validate as judge
    from headrace.quality.validation.report import html

    path = Path(data.path)
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    verdict = judge(table, load_suite(Path(suite.path)))
    Path(report.path).write_text(html(verdict, path.name), encoding="utf-8")
    metrics.log_metric("rows", len(table))
    metrics.log_metric("failed", sum(not one["success"] for one in verdict.evidence["expectations"]))
    print(f"{path.name}: {verdict.summary}")
    if verdict.outcome is not Outcome.PASSED:
        raise ValueError(f"{path.name} is not valid: {verdict.summary}. The report: {report.path}")
    return verdict.summary
