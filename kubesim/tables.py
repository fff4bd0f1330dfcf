"""Writing tables as Parquet, and CSV if wanted, with where they come from, and reading them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kubesim.errors import InputError
from kubesim.files import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_table(
    stem: Path,
    frame: pd.DataFrame,
    provenance: dict[str, str],
    *,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    with_csv: bool = False,
) -> None:
    """Write ``STEM.parquet``, with its provenance in the schema's metadata.

    Parameters
    ----------
    stem
        The files' path without ending.
    frame
        The table; the index is left out. A CSV file has no place for metadata, so what tells where its rows come from
        must be columns.
    provenance
        Names and texts, such as version and scenario.
    columns
        What is to be said of columns, such as unit and description, by the column's name: metadata of their fields.
    with_csv
        Write ``STEM.csv``, too.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [field.with_metadata((columns or {}).get(field.name)) for field in table.schema]
    table = table.cast(pa.schema(fields, table.schema.metadata))
    added = {f"kubesim:{key}".encode(): value.encode() for key, value in provenance.items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **added})
    write_file(stem.with_suffix(".parquet"), lambda aside: pq.write_table(table, aside, compression="zstd"))
    if with_csv:
        write_file(stem.with_suffix(".csv"), lambda aside: frame.to_csv(aside, index=False, lineterminator="\n"))


def read_parquet(path: Path) -> pd.DataFrame:
    """A table of results.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"there is no {path}: no run was finished, or it was removed") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
