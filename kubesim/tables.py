"""Writing tables as Parquet, and CSV if wanted, with where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from kubesim.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


def write_table(stem: Path, frame: pd.DataFrame, provenance: dict[str, str], *, with_csv: bool = False) -> None:
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
    with_csv
        Write ``STEM.csv``, too.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    added = {f"kubesim:{key}".encode(): value.encode() for key, value in provenance.items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **added})
    write_file(stem.with_suffix(".parquet"), lambda aside: pq.write_table(table, aside, compression="zstd"))
    if with_csv:
        write_file(stem.with_suffix(".csv"), lambda aside: frame.to_csv(aside, index=False, lineterminator="\n"))
