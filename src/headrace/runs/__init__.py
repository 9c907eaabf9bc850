"""Carries a PipelineSpec to finished tasks, each step once, across any crash."""
