"""Verdicts as JUnit XML, which CI systems show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from kubesim.experiment.verdicts import CheckReport, Verdict
from kubesim.files import write_text

if TYPE_CHECKING:
    from pathlib import Path


def write_junit(path: Path, report: CheckReport) -> None:
    """Write one test suite per experiment and one test case per expectation.

    An expectation that fails is a failure, one of which the data cannot tell is skipped.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    cases = []
    for one in report.outcomes:
        case = _case(report.name, one.expectation)
        if one.verdict is Verdict.FAILS:
            case.result = [Failure(_printable(one.message))]
        elif one.verdict is Verdict.CANNOT_TELL:
            case.result = [Skipped(_printable(f"cannot tell: {one.message}"))]
        else:
            case.system_out = _printable(one.message)
        cases.append(case)
    _write(path, report.name, cases)


def write_junit_error(path: Path, name: str, message: str) -> None:
    """Write that expectations could not be evaluated, and why.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    case = _case(name, "kubesim check")
    case.result = [Error(_printable(message))]
    _write(path, name, [case])


def _case(suite: str, name: str) -> TestCase:
    return TestCase(_printable(name), classname=_printable(suite), time=0)


def _write(path: Path, name: str, cases: list[TestCase]) -> None:
    suite = TestSuite(_printable(name))
    suite.add_testcases(cases)
    document = JUnitXml("kubesim check")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]
    write_text(path, text.decode("utf-8") + "\n")


def _printable(text: str) -> str:
    """A text without the characters that XML cannot hold."""
    return "".join(character if character.isprintable() else "?" for character in text)
