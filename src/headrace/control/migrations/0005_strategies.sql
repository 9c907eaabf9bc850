-- Until when a promoted revision is watched; NULL when nobody watches it.
ALTER TABLE rollout ADD COLUMN watch_until REAL;

-- What was judged: analysis, test, templates, watch. From it and the stored counts a verdict can be computed again.
ALTER TABLE rollout_verdict ADD COLUMN kind TEXT NOT NULL DEFAULT 'analysis';

-- Of a metric that is a mean: number, sum and sum of squares of all values so far, by arm, as JSON.
ALTER TABLE rollout_window ADD COLUMN moments TEXT;

-- Measurements of AnalysisTemplates; `value` is what the provider answered, as JSON.
CREATE TABLE rollout_measurement (
    rollout_id TEXT NOT NULL REFERENCES rollout (id),
    step INTEGER NOT NULL,
    template TEXT NOT NULL,
    metric TEXT NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('Successful', 'Failed', 'Inconclusive', 'Error')),
    value TEXT,
    message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (rollout_id, step, template, metric, number)
) STRICT;
