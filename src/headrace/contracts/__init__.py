"""The documents Headrace reads and writes, as frozen types; no I/O."""
