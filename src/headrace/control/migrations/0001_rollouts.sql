-- What serves now. The model and settings are in the revision.
CREATE TABLE service (
    name TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    stable TEXT,
    previous TEXT,
    updated_at REAL NOT NULL
) STRICT;

-- The move of a service from one revision to the next: desired state, and the facts that are in force.
CREATE TABLE rollout (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL REFERENCES service (name),
    request_key TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL,
    from_revision TEXT,
    to_revision TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('Progressing', 'Paused', 'Healthy', 'Degraded', 'Aborted')),
    step INTEGER NOT NULL DEFAULT 0,
    step_since REAL NOT NULL,
    weight INTEGER NOT NULL DEFAULT 0 CHECK (weight BETWEEN 0 AND 100),
    -- Since when the new revision has had traffic, and the cumulative counts that the next window starts from.
    traffic_since REAL,
    counted TEXT,
    counted_at REAL NOT NULL DEFAULT 0,
    verdict TEXT,
    message TEXT NOT NULL DEFAULT '',
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    registry_told INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    finished_at REAL
) STRICT;
CREATE UNIQUE INDEX one_rollout_a_service ON rollout (service) WHERE state IN ('Progressing', 'Paused');

-- Counts of one stretch of time, by metric: requests `n` and bad events `x` on both arms.
CREATE TABLE rollout_window (
    rollout_id TEXT NOT NULL REFERENCES rollout (id),
    number INTEGER NOT NULL,
    metric TEXT NOT NULL,
    at REAL NOT NULL,
    canary_n INTEGER NOT NULL,
    canary_x INTEGER NOT NULL,
    stable_n INTEGER NOT NULL,
    stable_x INTEGER NOT NULL,
    PRIMARY KEY (rollout_id, number, metric)
) STRICT;

-- The verdicts that moved a rollout on or back.
CREATE TABLE rollout_verdict (
    rollout_id TEXT NOT NULL REFERENCES rollout (id),
    number INTEGER NOT NULL,
    step INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    at REAL NOT NULL,
    outcome TEXT NOT NULL,
    summary TEXT NOT NULL,
    evidence TEXT NOT NULL,
    PRIMARY KEY (rollout_id, number)
) STRICT;
