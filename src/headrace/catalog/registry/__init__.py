"""The model registry: which versions there are, what serves, what wants to."""

from headrace.catalog.registry.models import ModelRegistry, ModelVersion

__all__ = ["ModelRegistry", "ModelVersion"]
