"""Judge a canary against the stable revision from windows of counts. Pure: no time, no Envoy, no database."""

from headrace.quality.analysis.judge import judge
from headrace.quality.analysis.sequential import Window, e_value

__all__ = ["Window", "e_value", "judge"]
