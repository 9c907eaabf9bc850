"""A model server: one process a revision, KServe's V1 and V2 protocol over HTTP."""
