-- MLflow's runs for the tasks and loops of a pipeline run, and (path '') for the whole.
CREATE TABLE mlflow_run (
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    experiment_name TEXT NOT NULL,
    mlflow_run_id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'RUNNING' CHECK (status IN ('RUNNING', 'FINISHED', 'FAILED', 'KILLED')),
    PRIMARY KEY (run_id, path)
) STRICT;
