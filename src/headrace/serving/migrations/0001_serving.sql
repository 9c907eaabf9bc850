-- One immutable version of a service's model and settings, and the process that serves it.
CREATE TABLE revision (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    namespace TEXT NOT NULL,
    number INTEGER NOT NULL,
    model_uri TEXT NOT NULL,
    model_path TEXT NOT NULL,
    settings TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('created', 'starting', 'ready', 'failed', 'stopped')),
    pid INTEGER,
    process_created REAL,
    port INTEGER,
    starts INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    UNIQUE (service, number)
) STRICT;
