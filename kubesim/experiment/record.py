"""What is kept of one finished run, in a file of its own."""

from __future__ import annotations

import hashlib
import json
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from kubesim.errors import InputError
from kubesim.files import read_text, write_text
from kubesim.stats.latencies import Latencies

if TYPE_CHECKING:
    from pathlib import Path


class Record(BaseModel):
    """One finished run.

    Parameters
    ----------
    id
        Of the run; see :func:`kubesim.scenario.provenance.run_id`.
    provenance
        Version, scenario, seed, replication and cost set.
    summary
        Its measures; those that are no number are null.
    latencies
        A small picture of its latencies; null where there are none.
    breakdown
        Where the time went, by operation.
    refusals, notices
        Flows that had no way, by reason; what a person should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    provenance: dict[str, str]
    summary: dict[str, float | None]
    latencies: Latencies | None
    breakdown: list[dict[str, str | int | float | bool | None]]
    refusals: dict[str, int]
    notices: list[str]

    def measures(self) -> dict[str, float]:
        """The summary with NaN where there is no number."""
        return {name: nan if value is None else value for name, value in self.summary.items()}


def record_of(outcome: dict[str, Any]) -> Record:
    """The record of what a run gave; its numbers are as they will be when they are read back."""
    summary = {name: value if isfinite(value) else None for name, value in outcome["summary"].items()}
    return Record(**{**outcome, "summary": summary})


def write_record(record: Record, path: Path) -> None:
    """Write a record with a digest of what is in it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    content = record.model_dump(mode="json")  # in its own order, which is that of tables' columns
    text = json.dumps({**content, "sha256": _digest(content)}, allow_nan=False)
    write_text(path, text + "\n")


def read_record(path: Path) -> Record:
    """Read a record back.

    Raises
    ------
    InputError
        If it cannot be read, or is not what was written.
    """
    try:
        content = json.loads(read_text(path))
        digest = content.pop("sha256", None)
        record = Record.model_validate(content)
    except (json.JSONDecodeError, AttributeError, TypeError, ValidationError):
        raise InputError(f"{path} is damaged, or no record of a run") from None
    if digest != _digest(content) or record.id != path.stem:
        raise InputError(f"{path} is damaged: it is not what was written")
    return record


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
