"""What is compared, and how each tool is asked for a row."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
ROWS = ("chain", "cold", "wide", "cached", "frame", "many")


@dataclass(frozen=True)
class Ask:
    """One measurement: `row` of bench/peers' scripts with so many tasks; `once` is a run from a cold shell."""

    row: str
    tasks: int
    rounds: int = 1
    once: bool = False
    warm_up: int = 1


@dataclass(frozen=True)
class Tool:
    """A tool. `command` gives its command line, given its interpreter; `lacks` says why it has no figure for a row.

    `warm` is False when the tool has no process that stays: then all of its figures are of runs from a cold shell.
    A `slow` one is measured fewer times.
    """

    name: str
    title: str
    isolated: bool
    command: Callable[[str, Ask, Path], list[str]]
    peer: str = ""
    warm: bool = True
    slow: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    prepare: tuple[str, ...] = ()
    note: str = ""


def _script(name: str) -> Callable[[str, Ask, Path], list[str]]:
    def command(python: str, ask: Ask, documents: Path) -> list[str]:
        more = ["--once"] if ask.once else ["--rounds", str(ask.rounds), "--warm-up", str(ask.warm_up)]
        return [python, str(PEERS / name), ask.row, "--tasks", str(ask.tasks), *more]

    return command


def _headrace(python: str, ask: Ask, documents: Path) -> list[str]:
    if ask.once:
        file = {"frame": "frames.yaml", "chain_py": "pipelines.py:chain"}.get(ask.row, f"{ask.row}.yaml")
        return [str(Path(python).parent / "headrace"), "run", str(documents / file), "--no-cache"]
    words = [python, "-m", "bench.headrace_rows", ask.row, str(documents)]
    return [*words, "--tasks", str(ask.tasks), "--rounds", str(ask.rounds)]


def _metaflow(python: str, ask: Ask, documents: Path) -> list[str]:
    return [python, str(PEERS / "metaflow_flows.py"), "run", "--max-num-splits", "1000"]


def _airflow(python: str, ask: Ask, documents: Path) -> list[str]:
    return [str(Path(python).parent / "airflow"), "dags", "test", ask.row]


def environment(tool: Tool, ask: Ask, state: Path, python: Path) -> dict[str, str]:
    """The variables of a run: its environment activated, state of its own, nothing told to anybody."""
    named = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(state),
        "BENCH_STAMPS": str(state / "stamps"),
        "BENCH_FLOW": ask.row,
        "BENCH_WIDE": str(ask.tasks),
        "PYTHONPATH": f"{PEERS}{os.pathsep}{ROOT}" if tool.peer else str(ROOT),
        "DO_NOT_TRACK": "1",
    }
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    filled = {name: value.replace("STATE", str(state)) for name, value in tool.environment.items()}
    return {**kept, **named, **filled}


_NO_CACHE = "it has no cache for the results of tasks"

TOOLS = (
    Tool("headrace", "Headrace", True, _headrace, environment={"HEADRACE_HOME": "STATE/.headrace"}),
    Tool(
        "kfp", "kfp.local, pip step taken out", True, _script("kfp_local.py"), "kfp",
        note="SubprocessRunner(use_venv=False), components with install_kfp_package=False; nothing is recorded",
    ),
    Tool(
        "kfp-pip", "kfp.local", True, _script("kfp_local.py"), "kfp", environment={"BENCH_PIP": "1"}, slow=True,
        lacks={
            "wide": "as above, and the pip step", "cached": "as above", "frame": "as above, and the pip step",
        },
        note="SubprocessRunner(use_venv=False), components as they are compiled by default",
    ),
    Tool(
        "metaflow", "Metaflow", True, _metaflow, "metaflow", warm=False, slow=True,
        environment={"METAFLOW_USER": "bench", "METAFLOW_DATASTORE_SYSROOT_LOCAL": "STATE"},
        lacks={"cached": _NO_CACHE},
        note="no process stays between runs, so its figures are of runs from a cold shell",
    ),
    Tool(
        "dagster-multiprocess", "Dagster, multiprocess", True, _script("dagster_job.py"), "dagster",
        environment={"DAGSTER_HOME": "STATE", "BENCH_ISOLATED": "1"}, slow=True, lacks={"cached": "ops have no cache"},
        note="the default executor of `dagster job execute`",
    ),
    Tool(
        "dagster", "Dagster, in process", False, _script("dagster_job.py"), "dagster",
        environment={"DAGSTER_HOME": "STATE"}, lacks={"cached": "ops have no cache"},
    ),
    Tool(
        "prefect", "Prefect", False, _script("prefect_flow.py"), "prefect",
        environment={"PREFECT_HOME": "STATE/.prefect", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
        note="its temporary server's CPU counts; results are kept in the cached and frame rows",
    ),
    Tool(
        "zenml", "ZenML", False, _script("zenml_pipeline.py"), "zenml",
        environment={
            "ZENML_CONFIG_PATH": "STATE/.zenml", "ZENML_ANALYTICS_OPT_IN": "false", "AUTO_OPEN_DASHBOARD": "false",
        },
        note="the default local stack; the wide row has no reduce",
    ),
    Tool(
        "flyte", "Flyte 2, local", False, _script("flyte_tasks.py"), "flyte",
        note="functions called in one process; runs are not recorded",
    ),
    Tool(
        "airflow", "Airflow, dags test", False, _airflow, "airflow", warm=False, slow=True,
        environment={
            "AIRFLOW_HOME": "STATE", "AIRFLOW__CORE__DAGS_FOLDER": str(PEERS), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False", "AIRFLOW__CORE__MAX_MAP_LENGTH": "2000",
        },
        lacks={"cached": _NO_CACHE}, prepare=("airflow", "db", "migrate"),
        note="no process stays between runs, so its figures are of runs from a cold shell",
    ),
)  # fmt: skip


def chosen(names: str) -> list[Tool]:
    """The tools that a list with commas names; "" is all. Exits when one does not exist."""
    wanted = [name for name in names.split(",") if name] or [tool.name for tool in TOOLS]
    unknown = set(wanted) - {tool.name for tool in TOOLS}
    if unknown:
        sys.exit(f"no tool is called {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in TOOLS)}")
    return [tool for tool in TOOLS if tool.name in wanted]
