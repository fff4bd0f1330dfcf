"""JUnit XML, read back as CI systems would."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from junitparser import Failure, JUnitXml, Skipped, TestSuite

from kubesim.errors import OutputError
from kubesim.experiment import check
from kubesim.experiment.junit import write_junit, write_junit_error
from tests.experiment.frames import table_of_runs

if TYPE_CHECKING:
    from pathlib import Path

EXPECT = [
    "value(p50, proxy=\"a <b> & 'c'\") > 1 ns",
    "p50 < 1 ns",
    "p50 < 51 ns",
]


def test_verdicts_are_read_back(tmp_path: Path) -> None:
    frame = table_of_runs({"proxy": ["a <b> & 'c'", "ü\x01"]}, lambda _, r: 50.0 + r)
    report = check(frame, expect=EXPECT)
    write_junit(tmp_path / "out.xml", report)
    (suite,) = JUnitXml.fromfile(str(tmp_path / "out.xml"))
    assert isinstance(suite, TestSuite)
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("the table", 3, 1, 0, 1)
    cases = list(suite)
    assert [case.name for case in cases] == [one.expectation for one in report.outcomes]
    assert [[type(one) for one in case.result] for case in cases] == [[], [Failure], [Skipped]]
    (failure,), (skipped,) = cases[1].result, cases[2].result
    assert "51 ns (48.5 ns to 53.5 ns) over 2 of 2 combinations; 3 replications" in str(failure.message)
    assert "cannot tell" in str(skipped.message)
    assert "the interval reaches over the limit" in str(skipped.message)


def test_an_error_is_one(tmp_path: Path) -> None:
    write_junit_error(tmp_path / "out.xml", "some-sweep", "expect.0: no")
    root = ET.parse(tmp_path / "out.xml").getroot()  # noqa: S314 - our own
    assert root.get("errors") == "1"
    assert [one.get("message") for one in root.iter("error")] == ["expect.0: no"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_junit_error(tmp_path / "file" / "out.xml", "name", "why")
