"""Every kind of fault in a new revision, under every strategy: found, blamed on it, taken back; under traffic."""
