"""The tables of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import figures
from bench.tools import TOOLS

START, END = "<!-- bench:start -->", "<!-- bench:end -->"
Results = dict[str, Any]
_TITLES = {"headrace-py": "Headrace, from the .py", **{tool.name: tool.title for tool in TOOLS}}
_ISOLATED = {tool.name: tool.isolated for tool in TOOLS}


def write(page: Path, results: Results) -> None:
    """Put the tables between the page's markers."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}\n{render(results)}\n{END}{after}", encoding="utf-8")


def render(results: Results) -> str:
    """All rows that were measured, first what was to be reached."""
    parts = [_machine(results), _targets(results)]
    rows = results["rows"]
    sections: dict[str, Callable[[Any], str]] = {
        "chain": _chain, "cold": _cold, "wide": _wide, "cached": _cached, "frame": _frame, "many": _many,
    }  # fmt: skip
    parts += [section(rows[name]) for name, section in sections.items() if name in rows]
    return "\n\n".join([*parts, _notes()])


def _machine(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"{results['machine']}. Versions: {versions}."


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(head)} |", f"|{'|'.join([' --- '] + [' ---: '] * (len(head) - 1))}|"]
    return "\n".join([*rows, *(f"| {' | '.join(line)} |" for line in lines)])


def _title(name: str) -> str:
    return _TITLES[name] + ("" if _ISOLATED.get(name, True) else " (not isolated)")


def _head(text: str, row: Any) -> str:
    return f"### {text}\n\n{row['date']} UTC, load average before: {row['load']:.1f}.\n"


def _ratio(value: float, base: float | None) -> str:
    if not base:
        return ""
    return f"{value / base:.2g}×" if value / base < 100 else f"{value / base:.0f}×"


def _lines(samples: dict[str, Any], columns: int, line: Callable[[str, Any], Sequence[str]]) -> list[Sequence[str]]:
    """A line for each tool; one without a figure says why."""
    found = []
    for name, taken in samples.items():
        why = figures.problem(taken)
        blank = [""] * (columns - 2)
        found.append([_title(name), why, *blank] if why else [_title(name), *line(name, taken)])
    return found


def _chain(row: Any) -> str:
    samples = row["samples"]
    own = _own(samples, figures.chained)

    def line(name: str, taken: Any) -> Sequence[str]:
        f = figures.chained(taken)
        return [
            f"{f['p50']:.1f}", f"{f['p95']:.1f}", f"{f['whole']:.1f}", f"{f['cpu']:.1f}",
            _ratio(f["whole"], own and own["whole"]),
        ]  # fmt: skip

    head = ["milliseconds a task", "p50 from task to task", "p95", "run / 10 tasks", "CPU / task", "run, × Headrace"]
    return _head("A chain of 10 tasks that do nothing, warm", row) + "\n" + _table(head, _lines(samples, 6, line))


def _own(samples: dict[str, Any], figure: Callable[[Any], Any], name: str = "headrace") -> Any:
    taken = samples.get(name, [])
    return None if figures.problem(taken) else figure(taken)


def _cold(row: Any) -> str:
    samples = row["samples"]
    own = _own(samples, figures.cold)

    def line(name: str, taken: Any) -> Sequence[str]:
        f = figures.cold(taken)
        return [
            f"{f['wall']:.2f}", f"{f['cpu']:.2f}", _ratio(f["wall"], own and own["wall"]),
            _ratio(f["cpu"], own and own["cpu"]),
        ]  # fmt: skip

    head = ["seconds", "wall", "CPU", "wall, × Headrace", "CPU, × Headrace"]
    return _head("The same chain, from a cold shell to exit", row) + "\n" + _table(head, _lines(samples, 5, line))


def _wide(row: Any) -> str:
    parts = []
    sizes = dict.fromkeys(int(name.partition("@")[2]) for name in row["samples"])
    for size in sizes:
        samples = {n.partition("@")[0]: taken for n, taken in row["samples"].items() if n.endswith(f"@{size}")}
        own = _own(samples, lambda taken, size=size: figures.wide(taken, size))

        def line(name: str, taken: Any, size: int = size, own: Any = own) -> Sequence[str]:
            f = figures.wide(taken, size)
            return [
                f"{f['rate']:.1f}", f"{f['cpu']:.1f}", f"{f['rss']:.0f}",
                _ratio(own["rate"], f["rate"]) if own else "",
            ]  # fmt: skip

        head = [f"{size} tasks", "tasks a second", "CPU ms a task", "peak memory, MB", "Headrace is faster by"]
        parts.append(_table(head, _lines(samples, 5, line)))
    return _head("Tasks side by side and a reduce, warm", row) + "\n" + "\n\n".join(parts)


def _cached(row: Any) -> str:
    samples = row["samples"]
    own = _own(samples, figures.a_task_ms)

    def line(name: str, taken: Any) -> Sequence[str]:
        found = figures.a_task_ms(taken)
        return [f"{found:.2f}", _ratio(found, own)]

    head = ["from cache", "ms a task", "× Headrace"]
    return _head("10 tasks, all of them from the cache", row) + "\n" + _table(head, _lines(samples, 3, line))


def _frame(row: Any) -> str:
    samples = row["samples"]
    own = _own(samples, figures.frames)

    def line(name: str, taken: Any) -> Sequence[str]:
        f = figures.frames(taken)
        return [f"{f['wall']:.2f}", f"{f['cpu']:.2f}", _ratio(f["wall"], own and own["wall"])]

    head = ["seconds", "run", "CPU", "× Headrace"]
    text = (
        _head("A pandas DataFrame of 10 MB through 10 tasks, warm", row) + "\n" + _table(head, _lines(samples, 4, line))
    )
    if own:
        in_tasks, beside = own["ten"] / own["files"], own["ten"] / own["alone"]
        text += (
            f"\n\nThe ten tasks of Headrace that read and write the file take {own['ten']:.2f} s, {in_tasks:.2f} times"
            f" the {own['files']:.2f} s that they read and write for. One warm process that does nothing else needs"
            f" {own['alone']:.2f} s, since it reads into memory that it has used before: {beside:.2f} times that."
        )
    return text


_MANY = {
    "list": "list the newest 5", "list_api": "a page of 5 of the API, with the total", "show": "show a run",
    "show_short_id": "show a run by the start of its id", "start": "start a run: until its first task",
    "run": "a run of 10 tasks, from asking to its end",
}  # fmt: skip


def _many_figures(row: Any) -> tuple[list[int], list[dict[str, float]]]:
    counts = [int(name.partition("@")[2]) for name in row["samples"]]
    return counts, [taken[0].get("answer", {}) for taken in row["samples"].values()]


def _many(row: Any) -> str:
    counts, (few, much) = _many_figures(row)
    head = ["milliseconds", *(f"{count:,} runs" for count in counts), "ratio"]
    lines = [
        [text, f"{few[name]:.2f}", f"{much[name]:.2f}", _ratio(much[name], few[name])] for name, text in _MANY.items()
    ]
    size = f"The database with {counts[1]:,} runs has {much['database_mb']:.0f} MB."
    return _head("Many runs in the database", row) + "\n" + _table(head, lines) + f"\n\n{size}"


def targets(results: Results) -> list[tuple[str, str, bool]]:
    """What was to be reached, what was measured, and whether it was."""
    rows, found = results["rows"], []
    own = {name: row["samples"].get("headrace", []) for name, row in rows.items()}
    if not figures.problem(own.get("chain", [])):
        f = figures.chained(own["chain"])
        found.append(("a warm task: p50 ≤ 8 ms", f"{f['p50']:.1f} ms", f["p50"] <= 8))
        found.append(("a warm task: p95 ≤ 20 ms", f"{f['p95']:.1f} ms", f["p95"] <= 20))
    for name, text, wall, cpu in (("headrace", "the .yaml", 1.0, 0.8), ("headrace-py", "the .py", 2.0, 1.8)):
        taken = rows.get("cold", {"samples": {}})["samples"].get(name, [])
        if not figures.problem(taken):
            f = figures.cold(taken)
            reached = f["wall"] <= wall and f["cpu"] <= cpu
            measured = f"{f['wall']:.2f} s, {f['cpu']:.2f} CPU-s"
            found.append((f"cold shell to exit, from {text}: ≤ {wall} s, {cpu} CPU-s", measured, reached))
    for name, taken in rows.get("wide", {"samples": {}})["samples"].items():
        tool, _, size = name.partition("@")
        if tool == "headrace" and not figures.problem(taken):
            f = figures.wide(taken, int(size))
            found.append((f"{size} tasks side by side: ≥ 150 tasks/s", f"{f['rate']:.0f}", f["rate"] >= 150))
    if not figures.problem(own.get("cached", [])):
        cached = figures.a_task_ms(own["cached"])
        found.append(("from cache: ≤ 3 ms a task", f"{cached:.2f} ms", cached <= 3))
    if not figures.problem(own.get("frame", [])):
        f = figures.frames(own["frame"])
        ratio = f["ten"] / f["files"]
        found.append(("10 MB DataFrame: ≤ 1.3 × reading and writing it in the tasks", f"{ratio:.2f} ×", ratio <= 1.3))
    if "many" in rows:
        counts, (few, much) = _many_figures(rows["many"])
        worst = max(_MANY, key=lambda name: much[name] / few[name])
        ratio = much[worst] / few[worst]
        text = f"{counts[1]:,} runs: ≤ 2 × the cost with {counts[0]}"
        found.append((text, f"{ratio:.1f} × ({_MANY[worst]})", ratio <= 2))
    return found


def _targets(results: Results) -> str:
    lines = [(text, measured, "yes" if met else "**no**") for text, measured, met in targets(results)]
    return _table(["to be reached", "measured", "reached"], lines)


def _notes() -> str:
    return "\n".join(["Notes:", "", *(f"- {tool.title}: {tool.note}." for tool in TOOLS if tool.note)])
