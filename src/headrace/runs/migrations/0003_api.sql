-- What the KFP API keeps beside runs, and what it knows of a run.
CREATE TABLE experiment (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    storage_state TEXT NOT NULL DEFAULT 'AVAILABLE' CHECK (storage_state IN ('AVAILABLE', 'ARCHIVED')),
    created_at REAL NOT NULL
) STRICT;
INSERT INTO experiment (id, name, description, created_at)
VALUES ('default', 'Default', 'Runs that were created without an experiment.', CAST(strftime('%s', 'now') AS REAL));

CREATE TABLE pipeline (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE pipeline_version (
    id TEXT PRIMARY KEY,
    pipeline_id TEXT NOT NULL REFERENCES pipeline (id),
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    code_source_url TEXT NOT NULL,
    tags TEXT NOT NULL,
    document TEXT NOT NULL,
    file TEXT NOT NULL,
    created_at REAL NOT NULL,
    UNIQUE (pipeline_id, name)
) STRICT;
CREATE INDEX pipeline_version_by_creation ON pipeline_version (pipeline_id, created_at);

-- next_at: when it is due next; NULL when its schedule has come to an end.
CREATE TABLE recurring_run (
    id TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    pipeline_id TEXT NOT NULL,
    pipeline_version_id TEXT NOT NULL,
    document TEXT NOT NULL,
    file TEXT NOT NULL,
    parameters TEXT NOT NULL,
    pipeline_root TEXT NOT NULL,
    service_account TEXT NOT NULL,
    plugins_input TEXT NOT NULL,
    max_concurrency INTEGER NOT NULL,
    no_catchup INTEGER NOT NULL,
    cron TEXT NOT NULL,
    interval_seconds INTEGER NOT NULL,
    start_at REAL,
    end_at REAL,
    enabled INTEGER NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    last_at REAL,
    next_at REAL,
    started INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX recurring_run_by_due ON recurring_run (next_at) WHERE enabled = 1;
CREATE INDEX recurring_run_by_experiment ON recurring_run (experiment_id);

ALTER TABLE run ADD COLUMN experiment_id TEXT NOT NULL DEFAULT 'default';
ALTER TABLE run ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN service_account TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN pipeline_root TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN pipeline_id TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN pipeline_version_id TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN recurring_run_id TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN scheduled_at REAL;
ALTER TABLE run ADD COLUMN storage_state TEXT NOT NULL DEFAULT 'AVAILABLE'
    CHECK (storage_state IN ('AVAILABLE', 'ARCHIVED'));
ALTER TABLE run ADD COLUMN plugins_input TEXT NOT NULL DEFAULT '{}';
ALTER TABLE run ADD COLUMN plugins_output TEXT NOT NULL DEFAULT '{}';
-- Hidden from then on; the rows go once nothing of the run is at work any more.
ALTER TABLE run ADD COLUMN deleted_at REAL;
-- Lists and their totals are read from these alone, however many runs there are and however long their documents.
CREATE INDEX run_listed ON run (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX run_by_experiment ON run (experiment_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX run_by_name ON run (name, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX run_by_recurring_run ON run (recurring_run_id, state) WHERE recurring_run_id != '';
CREATE INDEX run_by_deletion ON run (deleted_at) WHERE deleted_at IS NOT NULL;
