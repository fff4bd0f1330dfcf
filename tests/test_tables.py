"""Tables on disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from kubesim.tables import write_table

FRAME = pd.DataFrame({"name": ["a", "b"], "latency_ns": [1, 2], "share_ratio": [0.1, float("nan")]})


def test_both_files_hold_the_table_and_parquet_where_it_comes_from(tmp_path: Path) -> None:
    write_table(tmp_path / "runs", FRAME, {"version": "1", "scenario": "s: µ"}, with_csv=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "runs.parquet"), FRAME)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "runs.csv"), FRAME)
    metadata = pq.read_schema(tmp_path / "runs.parquet").metadata
    assert metadata[b"kubesim:scenario"].decode() == "s: µ"
    assert metadata[b"kubesim:version"] == b"1"


def test_the_same_table_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_table(tmp_path / name, FRAME, {"version": "1"}, with_csv=True)
    for ending in ("parquet", "csv"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_columns_may_say_what_they_are(tmp_path: Path) -> None:
    write_table(
        tmp_path / "runs", FRAME, {"version": "1"}, columns={"latency_ns": {"unit": "ns"}, "other": {"unit": "s"}}
    )
    schema = pq.read_schema(tmp_path / "runs.parquet")
    assert [field.metadata for field in schema] == [None, {b"unit": b"ns"}, None]
    assert schema.metadata[b"kubesim:version"] == b"1"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "runs.parquet"), FRAME)
