-- A run is rows: the run, its tasks, their attempts, their artifacts.
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    file TEXT NOT NULL,
    parameters TEXT NOT NULL,
    environment TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    source_dir TEXT NOT NULL,
    commit_sha TEXT NOT NULL,
    caching INTEGER NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('PENDING', 'RUNNING', 'PAUSED', 'SUCCEEDED', 'FAILED', 'CANCELING', 'CANCELED')),
    owner TEXT,
    outputs TEXT NOT NULL DEFAULT '{}',
    error TEXT,
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL
) STRICT;
CREATE INDEX run_by_state ON run (state);
CREATE INDEX run_by_creation ON run (created_at);

CREATE TABLE task (
    run_id TEXT NOT NULL REFERENCES run (id),
    path TEXT NOT NULL,
    display_name TEXT NOT NULL,
    component TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'PAUSED', 'SUCCEEDED', 'FAILED', 'CANCELED')),
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    inputs TEXT NOT NULL,
    outputs TEXT NOT NULL DEFAULT '{}',
    cache_key TEXT NOT NULL DEFAULT '',
    cached INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL,
    PRIMARY KEY (run_id, path)
) STRICT;
CREATE INDEX task_by_cache_key ON task (cache_key) WHERE cache_key != '' AND state = 'SUCCEEDED';

-- One process that tried to do a task.
CREATE TABLE attempt (
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('RUNNING', 'SUCCEEDED', 'FAILED', 'LOST', 'CANCELED')),
    directory TEXT NOT NULL,
    pid INTEGER,
    process_created REAL,
    message TEXT NOT NULL DEFAULT '',
    started_at REAL NOT NULL,
    finished_at REAL,
    PRIMARY KEY (run_id, path, number),
    FOREIGN KEY (run_id, path) REFERENCES task (run_id, path)
) STRICT;

CREATE TABLE artifact (
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    uri TEXT NOT NULL,
    type TEXT NOT NULL,
    metadata TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (run_id, path, name, position),
    FOREIGN KEY (run_id, path) REFERENCES task (run_id, path)
) STRICT;
CREATE INDEX artifact_by_digest ON artifact (digest);
