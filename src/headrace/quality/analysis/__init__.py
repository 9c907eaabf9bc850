"""Judge a canary against the stable revision from windows of counts. Pure: no time, no Envoy, no database."""

from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.sequential import Window

__all__ = ["Window", "judge"]
