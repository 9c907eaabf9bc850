"""From a table and a Great Expectations suite to a verdict. https://docs.greatexpectations.io/docs/core/introduction/

A suite is the JSON that Great Expectations 1.x writes: {"name": …, "expectations": [{"type": …, "kwargs": {…}}]}.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

from headrace.contracts.verdict import Outcome, Verdict
from headrace.errors import DocumentError


def load_suite(path: Path) -> Any:
    """The suite in a JSON file.

    Raises:
        DocumentError: not JSON, not a suite, or an expectation that Great Expectations does not know.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}", file=str(path)) from error
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise DocumentError(f"not valid JSON: {error}", file=str(path), line=line) from error
    expectations = told.get("expectations") if isinstance(told, dict) else None
    if not isinstance(expectations, list) or not expectations:
        raise DocumentError(
            "has no expectations", file=str(path), field="expectations",
            remedy='Write {"name": "…", "expectations": [{"type": "…", "kwargs": {…}}]}.',
        )  # fmt: skip
    gx = _great_expectations()
    made = []
    for index, one in enumerate(expectations):
        try:
            made.append(_expectation_class(gx, one["type"])(**one.get("kwargs", {}), meta=one.get("meta")))
        except Exception as error:
            name = one.get("type") if isinstance(one, dict) else one
            raise DocumentError(
                f"{name!r} is not an expectation that can be made: {error}", file=str(path),
                field=f"expectations[{index}]",
            ) from error  # fmt: skip
    return gx.ExpectationSuite(name=told.get("name") or path.stem, expectations=made)


def validate(table: Any, suite: Any) -> Verdict:
    """Judge a pandas DataFrame. Evidence: `rows`, `columns`, and `expectations` with what was expected and found."""
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("pandas")
    batch = source.add_dataframe_asset("table").add_batch_definition_whole_dataframe("all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = batch.get_batch({"dataframe": table}).validate(suite)
    found = [_finding(one) for one in result.results]
    failed = [one for one in found if not one["success"]]
    evidence = {"rows": len(table), "columns": len(table.columns), "suite": suite.name, "expectations": found}
    if any(one["error"] for one in failed):
        return Verdict(Outcome.ERROR, _summary(failed, len(found)), evidence)
    return Verdict(Outcome.FAILED if failed else Outcome.PASSED, _summary(failed, len(found)), evidence)


def _finding(result: Any) -> dict[str, Any]:
    told = result.to_json_dict()
    config, details = told["expectation_config"], told.get("result") or {}
    raised = next((v for v in [told.get("exception_info", {}), *told.get("exception_info", {}).values()]
                   if isinstance(v, dict) and v.get("raised_exception")), None)  # fmt: skip
    kwargs = {k: v for k, v in config["kwargs"].items() if k not in ("batch_id", "column")}
    return {
        "type": config["type"],
        "column": config["kwargs"].get("column", ""),
        "expected": kwargs,
        "success": bool(told["success"]),
        "observed": details.get("observed_value"),
        "unexpected": details.get("unexpected_count"),
        "unexpected_percent": details.get("unexpected_percent"),
        "examples": (details.get("partial_unexpected_list") or [])[:5],
        "error": str(raised.get("exception_message", "")) if raised else "",
    }


def _summary(failed: list[dict[str, Any]], total: int) -> str:
    if not failed:
        return f"all {total} expectations hold"
    return f"{len(failed)} of {total} expectations do not hold: " + "; ".join(map(sentence, failed))


def sentence(finding: dict[str, Any]) -> str:
    """One finding in words: `air_time: mean is 2.5, expected 60 to 240`."""
    name = finding["type"].removeprefix("expect_").replace("_", " ")
    head = f"{finding['column']}: {name}" if finding["column"] else name
    expected = ", ".join(f"{key} {_short(value)}" for key, value in finding["expected"].items() if value is not None)
    text = f"{head} ({expected})" if expected else head
    if finding["error"]:
        return f"{text}: {finding['error']}"
    if finding["success"]:
        return text
    if finding["observed"] is not None:
        return f"{text}: found {_short(finding['observed'])}"
    if finding["unexpected"] is None:
        return text
    examples = ", ".join(_short(example) for example in finding["examples"][:3] if example is not None)
    such = f", such as {examples}" if examples else ""
    return f"{text}: {finding['unexpected']} rows ({finding['unexpected_percent']:.1f} %) break it{such}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _expectation_class(gx: Any, name: str) -> Any:
    return getattr(gx.expectations, "".join(part.title() for part in name.split("_")))


def _great_expectations() -> Any:
    """The library, with its telemetry and its talk of itself off. Importing it takes seconds, so it is done on use."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    # The second has a level of its own.
    for name in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return great_expectations
