"""Experiments and their runs: MLflow's pages over the embedded store."""

from headrace.catalog.tracking.server import TrackingServer

__all__ = ["TrackingServer"]
