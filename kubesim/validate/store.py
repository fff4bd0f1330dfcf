"""The directory of a validation: ``targets.parquet``, ``targets.csv``, ``validation.json`` and ``manifest.json``."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING

import pandas as pd

from kubesim.files import MANIFEST, prepare_directory, write_text
from kubesim.tables import write_table

if TYPE_CHECKING:
    from pathlib import Path

    from kubesim.validate.comparison import Validation


def save_validation(validation: Validation, directory: Path) -> None:
    """Write what a validation found, for figures and for other programs.

    Parameters
    ----------
    validation
        What to write.
    directory
        Where; made if it is not there.

    Raises
    ------
    OutputError
        If the directory cannot be written, or holds something else.
    """
    provenance = {"kubesim_version": metadata.version("kubesim"), "cost_set": validation.cost_set}
    prepare_directory(directory, "validation")
    rows = [{**one.to_dict(), **provenance} for one in validation.comparisons]
    write_table(directory / "targets", pd.DataFrame(rows), provenance)
    write_text(directory / "validation.json", json.dumps(validation.to_dict(), indent=2, allow_nan=False) + "\n")
    manifest = {"kind": "validation", "provenance": provenance}
    write_text(directory / MANIFEST, json.dumps(manifest, indent=2) + "\n")
