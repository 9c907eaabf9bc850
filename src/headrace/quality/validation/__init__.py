"""Check a table against a Great Expectations suite."""

from headrace.quality.validation.suite import load_suite, validate

__all__ = ["load_suite", "validate"]
