"""One run, and how records become rows and lines."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Run:
    """One piece of work: its settings, its inputs and what came of it."""

    id: str
    """`kind-digest`; the digest is that of kind, configuration and inputs."""
    kind: str
    """What was made: `sae`, `labels`, `profile`, `effects`, `graph`, `probes`, `prediction`,
    `plan`, `decisions`, ..."""
    status: Literal["finished", "running", "interrupted"]
    """`finished`: visible in the store; `running`: a process makes it; `interrupted`: kept aside,
    to be resumed."""
    config: Mapping[str, Any]
    """The settings, flags and job file merged."""
    inputs: Mapping[str, str]
    """Role -> run id or checksum of a file."""
    seed: int
    """Seed from which every random choice of the run derives."""
    created: str
    """Start [ISO 8601, UTC]."""
    seconds: float
    """Working time, interruptions not counted [s]."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """The run's few figures, as the lists show them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Package versions, code version, device, platform."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Relative path -> SHA-256."""
    format: int = 1
    """Version of the folder's layout."""


def row(record: Any) -> dict[str, Any]:
    """A record as one row of a table."""
    return dataclasses.asdict(record)


def figures(summary: Mapping[str, Any]) -> str:
    """A run's few figures in one line: `fvu 0.0124, l0 20`; lists and tables are left out."""
    parts = []
    for name, value in summary.items():
        if isinstance(value, float):
            parts.append(f"{name} {value:.4g}")
        elif not isinstance(value, list | dict):
            parts.append(f"{name} {value}")
    return ", ".join(parts)
