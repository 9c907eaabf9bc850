"""The plots of docs/statistics.md. The same results give the same files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from bench.analysis import simulate
from bench.analysis.rules import ANALYSIS
from bench.analysis.simulate import HEADRACE, RULES, WRONG_UNIT, Result
from bench.analysis.tables import rollbacks, wilson
from bench.analysis.traffic import MINUTES, WINDOW

_OURS, _OTHERS, _ALPHA = "#0b6e4f", "#9aa5b1", "#c0392b"
_TOP = 1e6
_LINES = {
    HEADRACE: (_OURS, "o-"),
    "Flagger-like, 1 %, 5 failed checks": ("#5b7fb5", "s--"),
    "Argo-like, 1 %, failureLimit 0": ("#b07aa1", "s:"),
    "Flagger-like, twice the usual rate": ("#5b7fb5", "^--"),
    "Argo-like, twice the usual rate": ("#b07aa1", "^:"),
    simulate.Z_TEST: ("#9aa5b1", "d-."),
}
_EFFECTS = {1.0: "#9aa5b1", 2.0: "#e9a23b", 4.0: "#d9622b", 10.0: "#8e1b1b"}


def draw(folder: Path, same: Sequence[Result], worse: Sequence[Result], paths: dict[float, list[list[float]]]) -> None:
    """All plots, as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"svg.hashsalt": "headrace", "svg.fonttype": "none", "font.size": 10})
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "figure.figsize": (9, 4)})
    mpl.rcParams["figure.constrained_layout.use"] = True
    _evidence(paths)
    _save(folder / "analysis-evidence.svg")
    _false(same)
    _save(folder / "analysis-false-rollbacks.svg")
    _detection([result for result in worse if result.scenario.slower == 1.0])
    _save(folder / "analysis-detection.svg")


def _save(file: Path) -> None:
    plt.savefig(file, metadata={"Date": None})
    plt.close("all")
    # Matplotlib leaves blanks at the ends of lines.
    file.write_text("\n".join(line.rstrip() for line in file.read_text(encoding="utf-8").splitlines()) + "\n")


def _evidence(paths: dict[float, list[list[float]]]) -> None:
    limit = sum(metric.weight for metric in ANALYSIS.metrics) / (ANALYSIS.alpha * ANALYSIS.metrics[0].weight)
    for worse, found in paths.items():
        label = "identical arms" if worse == 1.0 else f"{worse:g} × as many errors"
        for path in found:
            # Up to where it leaves the plot.
            end = next((look for look, value in enumerate(path) if value > _TOP), len(path) - 1) + 1
            minutes = [(look + 1) * WINDOW / 60 for look in range(end)]
            plt.plot(minutes, path[:end], color=_EFFECTS[worse], lw=1.1, label=label)
            label = "_"
    plt.axhline(limit, color=_ALPHA, ls="--", lw=1.2)
    plt.text(MINUTES, limit * 1.5, f"limit {limit:g}: rolled back", color=_ALPHA, ha="right")
    plt.yscale("log")
    plt.ylim(1e-3, _TOP)
    plt.xlim(0, MINUTES)
    plt.xlabel("minutes")
    plt.ylabel("e-value of errors")
    plt.title("1 % errors, 50 requests a second, 10 % of them to the canary")
    plt.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _false(same: Sequence[Result]) -> None:
    coin = [result for result in same if not result.scenario.sticky]
    sticky = [result for result in same if result.scenario.sticky]
    bars = [(rule, coin, rule) for rule in RULES]
    bars += [
        ("Headrace, sticky, by users", sticky, HEADRACE),
        ("Headrace, sticky, by requests (wrong)", sticky, WRONG_UNIT),
    ]
    alpha = 100 * ANALYSIS.alpha
    for place, (_, results, rule) in enumerate(reversed(bars)):
        share = rollbacks(results, rule) / len(results)
        low, high = wilson(rollbacks(results, rule), len(results))
        plt.barh(place, 100 * share, color=_LINES.get(rule, (_OTHERS, ""))[0])
        plt.plot([100 * low, 100 * high], [place, place], color="black", lw=1)
        plt.text(max(100 * high, alpha) + 1, place, f"{share:.1%}", va="center")
    plt.yticks(range(len(bars)), [name for name, *_ in reversed(bars)])
    plt.axvline(alpha, color=_ALPHA, ls="--", lw=1.2)
    plt.xlim(0, 100)
    plt.xlabel("healthy revisions rolled back within 30 minutes, % (dashed: alpha)")


def _detection(errors: Sequence[Result]) -> None:
    """The median minutes until a revision with so many times 1 % errors is rolled back, at 10 % of the traffic."""
    figure, axes = plt.subplots(1, len(simulate.WORSE), sharey=True, figsize=(9, 4.2))
    for axis, worse in zip(axes, simulate.WORSE, strict=True):
        for rule in reversed(RULES):
            color, style = _LINES[rule]
            minutes = [_minutes(errors, worse, traffic, rule) for traffic in simulate.TRAFFIC]
            axis.plot(simulate.TRAFFIC, minutes, style, color=color, label=rule, ms=4)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(simulate.TRAFFIC, [str(traffic) for traffic in simulate.TRAFFIC])
        axis.set_yticks([1 / 12, 1 / 2, 1, 5, MINUTES], ["5 s", "30 s", "1 min", "5 min", "30 min"])
        axis.minorticks_off()
        axis.set_title(f"{worse:g} × 1 % errors")
        axis.set_xlabel("requests a second")
    axes[0].set_ylabel("median time (30 min: not found)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2, frameon=False)


def _minutes(errors: Sequence[Result], worse: float, traffic: int, rule: str) -> float:
    times = [
        result.at[rule] or MINUTES * 60
        for result in errors
        if result.scenario.worse == worse and result.scenario.per_second == traffic
        and result.scenario.rate == 0.01 and result.scenario.weight == "10 %"
    ]  # fmt: skip
    return median(times) / 60
