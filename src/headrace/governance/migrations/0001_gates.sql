-- A gate waits for people; a decision is what one of them said.
CREATE TABLE gate (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    question TEXT NOT NULL,
    evidence TEXT NOT NULL,
    parameters TEXT NOT NULL,
    required INTEGER NOT NULL CHECK (required >= 1),
    state TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'rejected', 'expired')),
    submitted TEXT NOT NULL DEFAULT '{}',
    opened_at REAL NOT NULL,
    expires_at REAL,
    decided_at REAL
) STRICT;
CREATE TABLE decision (
    gate_id TEXT NOT NULL REFERENCES gate (id),
    actor TEXT NOT NULL,
    approved INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (gate_id, actor)
) STRICT;
