-- What a person or a program shows to be let in. Of the secret only its SHA-256 digest is kept.
CREATE TABLE token (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    roles TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    revoked_at REAL
) STRICT;
-- A name is one person: at most one token of it is not revoked.
CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked_at IS NULL;
-- A browser that was let in; the cookie's value is kept as its digest.
CREATE TABLE session (
    digest TEXT PRIMARY KEY,
    token_id TEXT NOT NULL REFERENCES token (id),
    started_at REAL NOT NULL,
    seen_at REAL NOT NULL
) STRICT;
CREATE INDEX session_token ON session (token_id);
