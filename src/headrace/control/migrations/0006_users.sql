-- How many could have had an event in a window, where users are counted: see quality/analysis/users.py. NULL: all requests.
ALTER TABLE rollout_window ADD COLUMN canary_at_risk INTEGER;
ALTER TABLE rollout_window ADD COLUMN stable_at_risk INTEGER;

-- Users that a rollout with sticky routing has seen, by metric, while it lasts; `user` is a hash.
CREATE TABLE rollout_user (
    rollout_id TEXT NOT NULL REFERENCES rollout (id),
    metric TEXT NOT NULL,
    user TEXT NOT NULL,
    on_canary INTEGER NOT NULL,
    on_stable INTEGER NOT NULL,
    bad INTEGER NOT NULL,
    PRIMARY KEY (rollout_id, metric, user)
) STRICT, WITHOUT ROWID;
