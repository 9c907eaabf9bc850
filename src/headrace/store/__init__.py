"""Where facts live: one database, one event log, artifact bytes."""
