-- How far in the event log a trigger has read.
CREATE TABLE trigger_cursor (
    name TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT;
