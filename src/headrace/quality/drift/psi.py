"""The Population Stability Index of two samples, and when it is more than chance.

With the shares p of the bins in the reference and q in what came later, PSI = sum (q - p) ln(q / p). The field reads
below 0.1 as no change, to 0.25 as some, above as much (Siddiqi, Credit Risk Scorecards, 2006). Two samples of n and m
from one distribution over B bins have a PSI of about (1/n + 1/m) chi-square with B - 1 degrees of freedom (Yurdakul,
Statistical Properties of Population Stability Index, 2018), so that small samples reach 0.1 by chance: the limit is the
larger of 0.1 and that noise's 99.9 % quantile (Wilson and Hilferty 1931). Each bin is counted half an event more, so
that an empty one has a logarithm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headrace.contracts.verdict import Outcome, Verdict

SOME, MUCH = 0.1, 0.25
FEWEST = 200
MOST_BINS = 20
_DECILES = 10
_QUANTILE_999 = 3.0902  # of the normal distribution
OTHERS = "others"

Value = float | str | bool | None


def judge(reference: Sequence[Value], current: Sequence[Value]) -> Verdict:
    """Whether `current` is distributed as `reference`: passed when it is, failed when not, inconclusive with fewer than
    200 values on a side.

    The evidence holds `psi`, `limit`, and of each of the `bins` its name and both shares (0 to 1).
    """
    if min(len(reference), len(current)) < FEWEST:
        told = f"{min(len(reference), len(current))} predictions on a side; {FEWEST} are needed"
        return Verdict(Outcome.INCONCLUSIVE, told, {"reference": len(reference), "current": len(current)})
    names, before, now = _counted(reference, current)
    p, q = _shares(before), _shares(now)
    psi = float(np.sum((q - p) * np.log(q / p)))
    limit = max(SOME, noise(len(reference), len(current), len(names)))
    evidence = {
        "psi": psi, "limit": limit, "reference": len(reference), "current": len(current),
        "bins": [
            {"name": name, "reference": int(was) / len(reference), "current": int(is_) / len(current)}
            for name, was, is_ in zip(names, before, now, strict=True)
        ],
    }  # fmt: skip
    if psi < limit:
        return Verdict(Outcome.PASSED, f"as at first (PSI {psi:.2f})", evidence)
    word = "much" if psi >= MUCH else "somewhat"
    return Verdict(Outcome.FAILED, f"{word} different from the first ones (PSI {psi:.2f})", evidence)


def noise(reference: int, current: int, bins: int) -> float:
    """What the PSI of two samples from one distribution stays below 999 times in 1,000."""
    degrees = max(bins - 1, 1)
    spread = 2 / (9 * degrees)
    chi_square = degrees * (1 - spread + _QUANTILE_999 * math.sqrt(spread)) ** 3
    return chi_square * (1 / reference + 1 / current)


def _shares(counts: Any) -> Any:
    return (counts + 0.5) / (counts.sum() + 0.5 * len(counts))


def _counted(reference: Sequence[Value], current: Sequence[Value]) -> tuple[list[str], Any, Any]:
    """The bins' names, and how many of each sample are in them."""
    if all(_is_number(value) for value in (*reference, *current)) and len(set(reference)) > MOST_BINS:
        return _by_decile(np.array(reference, float), np.array(current, float))
    before, now = Counter(map(_name, reference)), Counter(map(_name, current))
    names = [name for name, _ in (before + now).most_common()]
    if len(names) > MOST_BINS:
        kept = set(names[: MOST_BINS - 1])
        before, now = _lumped(before, kept), _lumped(now, kept)
        names = [*names[: MOST_BINS - 1], OTHERS]
    return names, np.array([before[name] for name in names]), np.array([now[name] for name in names])


def _lumped(counts: Counter[str], kept: set[str]) -> Counter[str]:
    made: Counter[str] = Counter()
    for name, count in counts.items():
        made[name if name in kept else OTHERS] += count
    return made


def _by_decile(reference: Any, current: Any) -> tuple[list[str], Any, Any]:
    """Bins that hold a tenth of the reference each; more where its values are the same."""
    edges = np.unique(np.quantile(reference, np.arange(1, _DECILES) / _DECILES))
    counts = [
        np.bincount(np.searchsorted(edges, one, "left"), minlength=len(edges) + 1) for one in (reference, current)
    ]
    shown = [f"{edge:.4g}" for edge in edges]
    names = [
        f"to {shown[0]}",
        *(f"{low} to {high}" for low, high in pairwise(shown)),
        f"above {shown[-1]}",
    ]
    return names, counts[0], counts[1]


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _name(value: Value) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)
