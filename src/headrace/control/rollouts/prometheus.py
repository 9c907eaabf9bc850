"""Ask a Prometheus: one instant query. Protocol: https://prometheus.io/docs/prometheus/latest/querying/api/"""

from __future__ import annotations

from typing import Any

from headrace.contracts.analysis_template import TemplateMetric
from headrace.errors import HeadraceError

Answer = str | list[str]


class MeasurementError(HeadraceError):
    """The provider gave no value."""


def query(metric: TemplateMetric, text: str) -> Answer:
    """The value of a scalar, or the values of a vector, each as Prometheus writes a number (`0.95`, `NaN`).

    Raises:
        MeasurementError: no answer within the metric's timeout, an error, or another type of result.
    """
    import httpx

    try:
        answer = httpx.post(
            f"{metric.address}/api/v1/query", data={"query": text}, headers=dict(metric.headers),
            timeout=metric.timeout,
        )  # fmt: skip
        told: Any = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise MeasurementError(f"{metric.address} gives no answer: {error or type(error).__name__}") from error
    try:
        if told["status"] != "success":
            raise MeasurementError(f"{metric.address}: {told.get('error', told['status'])}")
        kind, result = told["data"]["resultType"], told["data"]["result"]
        if kind == "scalar":
            return str(result[1])
        if kind == "vector":
            return [str(sample["value"][1]) for sample in result]
    except (KeyError, IndexError, TypeError) as error:
        raise MeasurementError(f"{metric.address} does not answer as a Prometheus: {str(told)[:100]}") from error
    raise MeasurementError(f"a {kind} cannot be judged: the query must give a scalar or an instant vector")
