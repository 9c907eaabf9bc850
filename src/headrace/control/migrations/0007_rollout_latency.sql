-- How long the requests that a rollout counted took, by arm: `n` of them at most `edge` milliseconds.
CREATE TABLE rollout_latency (
    rollout_id TEXT NOT NULL REFERENCES rollout (id),
    arm TEXT NOT NULL CHECK (arm IN ('canary', 'stable')),
    edge REAL NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (rollout_id, arm, edge)
) STRICT, WITHOUT ROWID;
