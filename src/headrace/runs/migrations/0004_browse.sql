-- Whatever runs are looked for by: the rows themselves, with their documents, are long to read through.
CREATE INDEX run_browsed ON run (created_at, id, state, pipeline, name, reason, commit_sha) WHERE deleted_at IS NULL;
