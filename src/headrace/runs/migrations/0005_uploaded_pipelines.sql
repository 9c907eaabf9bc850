-- The newest run of each uploaded pipeline, for the pages that show what it came to.
CREATE INDEX run_by_uploaded_pipeline ON run (pipeline_id, created_at) WHERE deleted_at IS NULL;
