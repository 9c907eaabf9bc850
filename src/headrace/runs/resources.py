"""What a task asks of the machine: memory that it waits for, and threads.

As in Kubernetes, a limit without a request is the request, too. A value that is a placeholder is known only when the
task can start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from headrace.contracts.quantities import quantity
from headrace.errors import HeadraceError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"
)  # fmt: skip
_GIGABYTE = 1e9


@dataclass(frozen=True)
class Claim:
    """What a task takes while it runs: bytes of memory, and the threads that its libraries should use (0: unsaid)."""

    memory_bytes: float = 0.0
    threads: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which numerical libraries learn how many threads to use."""
        return dict.fromkeys(THREAD_VARIABLES, str(self.threads)) if self.threads else {}


def machine_memory() -> float:
    """The bytes of memory that tasks can have together."""
    return float(psutil.virtual_memory().total)


def claim(resources: Any, filled: Callable[[str], str]) -> Claim:
    """The claim of a ResourceSpec; `filled` replaces placeholders.

    Raises:
        HeadraceError: a value is not a quantity.
    """
    memory = _bytes(resources, "memory_request", filled) or _bytes(resources, "memory_limit", filled)
    cpus = _amount(resources.resource_cpu_limit, filled) or resources.cpu_limit
    return Claim(memory, max(1, int(cpus)) if cpus else 0)


def never_fits(resources: Any) -> tuple[str, str] | None:
    """The problem and its remedy when a claim is larger than the machine, as far as that is known beforehand."""
    asked = claim(resources, _known)
    return too_large(asked, machine_memory())


def too_large(asked: Claim, memory: float) -> tuple[str, str] | None:
    """The problem and its remedy when a claim is larger than all `memory`."""
    if asked.memory_bytes <= memory:
        return None
    return (
        f"needs {asked.memory_bytes / _GIGABYTE:.1f} GB of memory, and this machine has {memory / _GIGABYTE:.1f} GB",
        "Ask for less (set_memory_request, set_memory_limit), or use a larger machine or another engine.",
    )


def unmet(resources: Any) -> Iterator[tuple[str, str]]:
    """What is asked for and not provided, though the component runs: (problem, remedy)."""
    accelerator = resources.accelerator
    kind = accelerator.resource_type or accelerator.type
    count = accelerator.resource_count or str(accelerator.count or "")
    if kind and count not in ("", "0"):
        yield (
            f"asks for accelerators ({count} x {kind})",
            "They are not assigned here: the component sees the devices that this machine has.",
        )
    cpus = _amount(resources.resource_cpu_request or resources.resource_cpu_limit, _known)
    if cpus > (os.cpu_count() or 1):
        yield f"asks for {cpus:g} CPUs, and this machine has {os.cpu_count()}", "It runs on those, and takes longer."


def _known(text: str) -> str:
    return "" if "{{$" in text else text


def _bytes(resources: Any, name: str, filled: Callable[[str], str]) -> float:
    return _amount(getattr(resources, f"resource_{name}"), filled) or getattr(resources, name) * _GIGABYTE


def _amount(text: str, filled: Callable[[str], str]) -> float:
    if not text:
        return 0.0
    value = filled(text)
    try:
        return quantity(value) if value else 0.0
    except ValueError as error:
        raise HeadraceError(f"a resource is wrong: {error}", remedy="Write it as in 500m or 1Gi.") from error
