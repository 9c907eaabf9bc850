"""Tells MLflow of pipeline runs that ask for it, as KFP's MLflow integration does."""

from headrace.control.tracking.mlflow_runs import MlflowRuns, Tracking

__all__ = ["MlflowRuns", "Tracking"]
