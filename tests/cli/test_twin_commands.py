"""Commands about twins: what is refused before anything is built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.test_rule_commands import refused

TWIN = str(Path(__file__).parents[2] / "experiments" / "scenarios" / "twin.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "nosuch"], "there is no Service 'nosuch'"),
        (["--from", "nosuch"], "there is no pod 'nosuch'"),
        (["--from", "svc-001-0", "--to", "first"], "svc-001-0 serves svc-001 itself"),
    ],
)
def test_what_has_no_twin(words: list[str], message: str) -> None:
    assert refused("twin", "run", TWIN, *words).startswith(message)


def test_a_cost_set_is_named_by_its_file(tmp_path: Path) -> None:
    assert refused("calibrate", "--out", str(tmp_path / "mine.txt")).endswith("a cost set is named by its file")
    assert not list(tmp_path.iterdir())


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["twin", "up", TWIN], ["twin", "down"], ["twin", "run", TWIN]):
        assert refused(*words).startswith("a twin needs root")
