"""KFP v2 PipelineSpec: the compiled pipeline, read with the official protobuf messages."""

from headrace.contracts.pipeline_spec.document import PipelineDocument, parse

__all__ = ["PipelineDocument", "parse"]
