"""Quantities and durations as Kubernetes and Argo write them."""

from __future__ import annotations

import re

_SUFFIXES = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def quantity(text: str | float) -> float:
    """`500m` is 0.5, `1Gi` is 1073741824.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: not a quantity.
    """
    found = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text).strip())
    if found is None or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity such as 500m or 1Gi")
    return float(found[1]) * _SUFFIXES[found[2]]


def seconds(text: str | float) -> float:
    """`10s`, `500ms`, `1m30s`, or a bare number of seconds.

    Raises:
        ValueError: not a duration.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    parts = re.findall(r"([0-9.]+)(ms|s|m|h|d)", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise ValueError(f"{text!r} is not a duration such as 10s, 500ms or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
