"""The tables of docs/statistics.md, from results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median_low

from bench.analysis import simulate
from bench.analysis.simulate import HEADRACE, RULES, WRONG_UNIT, Result
from bench.analysis.traffic import MINUTES, WEIGHTS

_Z = 1.959964


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, z2 = count / of, _Z**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * (share * (1 - share) / of + z2 / (4 * of**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def rollbacks(results: Sequence[Result], rule: str) -> int:
    """How many of them the rule rolled back."""
    return sum(result.at.get(rule) is not None for result in results)


def table(head: Sequence[str], lines: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table of Markdown, its first `left` columns to the left."""
    rule = "|".join([" --- "] * left + [" ---: "] * (len(head) - left))
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)])


def put(text: str, tables: dict[str, str]) -> str:
    """`text` with each table between its two markers."""
    for name, table in tables.items():
        start, end = f"<!-- sim:{name} -->", f"<!-- /sim:{name} -->"
        if start not in text or end not in text:
            raise ValueError(f"the page has no place for the table {name}: write {start} and {end} into it")
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


def tables(same: Sequence[Result], worse: Sequence[Result]) -> dict[str, str]:
    """All tables, by the names of their markers."""
    coin = [result for result in same if not result.scenario.sticky]
    errors = [result for result in worse if result.scenario.slower == 1.0]
    return {
        "false-rollbacks": _false(same),
        "false-by-kind": _by_kind(coin),
        "detection-traffic": _by_traffic(errors),
        "detection-rate": _by_rate(errors),
        "detection-latency": _by_latency([result for result in worse if result.scenario.slower != 1.0]),
        "pass-margin": _pass_margin(coin),
        "pass-budget": _pass_budget(coin),
    }


def _share(results: Sequence[Result], rule: str) -> str:
    count, of = rollbacks(results, rule), len(results)
    low, high = wilson(count, of)
    return f"{count} of {of}: {count / of:.1%} ({low:.1%} to {high:.1%})"


def _false(same: Sequence[Result]) -> str:
    coin = [result for result in same if not result.scenario.sticky]
    sticky = [result for result in same if result.scenario.sticky]
    lines = [
        [f"**{rule}**" if rule == HEADRACE else rule, _share(coin, rule), _share(sticky, rule), _share(same, rule)]
        for rule in RULES
    ]
    default = sum(result.default_at is not None for result in same)
    lines.insert(1, [WRONG_UNIT, "", _share(sticky, WRONG_UNIT), ""])
    lines.insert(1, ["Headrace, default `minEffect`", "", "", f"{default} of {len(same)}: {default / len(same):.1%}"])
    return table(["rule", "a coin for each request", "sticky users", "all"], lines)


def _by_kind(coin: Sequence[Result]) -> str:
    kinds: list[tuple[str, Callable[[Result], bool]]] = []
    kinds += [(f"rate {rate:.1%}", lambda r, v=rate: r.scenario.rate == v) for rate in simulate.RATES]
    kinds += [(f"weight {weight}", lambda r, v=weight: r.scenario.weight == v) for weight in WEIGHTS]
    kinds += [
        (f"{traffic} requests/s", lambda r, v=traffic: r.scenario.per_second == v) for traffic in simulate.TRAFFIC
    ]
    lines = []
    for name, belongs in kinds:
        found = [result for result in coin if belongs(result)]
        lines.append([name, str(len(found)), *(f"{rollbacks(found, rule) / len(found):.1%}" for rule in RULES)])
    return table(["", "rollouts", *RULES], lines)


def _found(results: Sequence[Result], rule: str) -> str:
    return cell([result.at[rule] for result in results])


def cell(times: Sequence[int | None]) -> str:
    """The share that came to it, and the median over all; there is none when fewer than half did."""
    share = sum(at is not None for at in times) / len(times)
    middle = median_low([math.inf if at is None else at for at in times])
    return f"{share:.0%} [{_time(middle)}]" if middle < math.inf else f"{share:.0%}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _detection(groups: Iterable[tuple[list[str], Sequence[Result]]], head: Sequence[str]) -> str:
    lines = [[*name, *(_found(found, rule) for rule in RULES)] for name, found in groups]
    return table([*head, *RULES], lines, left=len(head))


def _by_traffic(errors: Sequence[Result]) -> str:
    return _detection(
        (
            (
                [f"{times:g} × 1 %", str(traffic)],
                [r for r in errors if r.scenario.worse == times and r.scenario.per_second == traffic
                 and r.scenario.rate == 0.01 and r.scenario.weight == "10 %"],
            )
            for times in simulate.WORSE for traffic in simulate.TRAFFIC
        ),
        ["errors", "requests/s"],
    )  # fmt: skip


def _by_rate(errors: Sequence[Result]) -> str:
    return _detection(
        (
            (
                [f"{times:g} × {rate:.1%}", weight],
                [r for r in errors if r.scenario.worse == times and r.scenario.per_second == 50
                 and r.scenario.rate == rate and r.scenario.weight == weight],
            )
            for times in simulate.WORSE for rate in simulate.RATES for weight in ("10 %", "50 %")
        ),
        ["errors", "weight"],
    )  # fmt: skip


def _by_latency(results: Sequence[Result]) -> str:
    return _detection(
        (
            (
                [f"{times:g} ×", str(traffic)],
                [r for r in results if r.scenario.slower == times and r.scenario.per_second == traffic],
            )
            for times in simulate.SLOWER for traffic in simulate.TRAFFIC
        ),
        ["median latency", "requests/s"],
    )  # fmt: skip


def _passed(results: Sequence[Result], way: str) -> str:
    times = [result.passed_at[way] for result in results]
    return cell(times) if any(times) else "never"


def _pass_margin(coin: Sequence[Result]) -> str:
    lines = []
    for traffic in simulate.TRAFFIC:
        for weight in ("5 %", "10 %", "50 %"):
            here = [r for r in coin if r.scenario.per_second == traffic and r.scenario.weight == weight]
            cells = [_passed([r for r in here if r.scenario.rate == rate], "margin 1.5") for rate in simulate.RATES]
            lines.append([str(traffic), weight, *cells])
    head = ["requests/s", "weight", *(f"{rate:.1%} errors on both" for rate in simulate.RATES)]
    return table(head, lines, left=2)


def _pass_budget(coin: Sequence[Result]) -> str:
    lines = []
    for traffic in simulate.TRAFFIC:
        for rate in simulate.RATES:
            here = [
                r
                for r in coin
                if r.scenario.per_second == traffic and r.scenario.rate == rate and r.scenario.weight == "10 %"
            ]
            lines.append([str(traffic), f"{rate:.1%}", *(_passed(here, f"harm {harm:g}") for harm in simulate.HARMS)])
    head = ["requests/s", "errors on both", *(f"budget {harm:.4g}" for harm in simulate.HARMS)]
    return table(head, lines, left=2)


def conditions(sizes: simulate.Sizes) -> str:
    """What was simulated, in a sentence."""
    kinds = len(simulate.RATES) * len(WEIGHTS) * len(simulate.TRAFFIC) * 2
    return (
        f"{kinds * sizes.same:,} rollouts of {MINUTES} minutes with identical arms: {kinds} kinds, {sizes.same} each; "
        f"seed {simulate.SEED}."
    )
