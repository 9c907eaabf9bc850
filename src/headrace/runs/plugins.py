"""What runs ask of plugins and what plugins tell of them: `plugins_input` and `plugins_output` of KFP's Run.

Source: PluginOutput and MetadataValue in KFP's backend/api/v2beta1/run.proto.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.store.database import Database


@dataclass(frozen=True)
class PluginRun:
    """A run as a plugin sees it: its input, and the entries that it has told already (None: nothing yet)."""

    run_id: str
    display_name: str
    pipeline_id: str
    pipeline_version_id: str
    wanted: Mapping[str, Any]
    told: Mapping[str, Any] | None


def asking(database: Database, run_id: str, plugin: str) -> PluginRun | None:
    """The run, when it has an input for the plugin that does not disable it."""
    row = database.one(
        "SELECT id, name, pipeline_id, pipeline_version_id, plugins_input, plugins_output FROM run WHERE id = ?",
        (run_id,),
    )
    wanted = json.loads(row["plugins_input"]).get(plugin) if row else None
    if row is None or wanted is None or wanted.get("disabled"):
        return None
    told = json.loads(row["plugins_output"]).get(plugin)
    return PluginRun(row["id"], row["name"], row["pipeline_id"], row["pipeline_version_id"], wanted, told)


def tell(database: Database, run_id: str, plugin: str, entries: Mapping[str, Mapping[str, Any]], problem: str) -> None:
    """Write what a plugin tells of a run; entries that are there stay. `problem` "" is success."""
    with database.transaction() as connection:
        row = connection.execute("SELECT plugins_output FROM run WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            return
        told = json.loads(row["plugins_output"])
        known = told.get(plugin, {}).get("entries", {})
        told[plugin] = {
            "entries": {**known, **entries},
            "state": "PLUGIN_FAILED" if problem else "PLUGIN_SUCCEEDED",
            "state_message": problem,
        }
        connection.execute("UPDATE run SET plugins_output = ? WHERE id = ?", (json.dumps(told), run_id))
