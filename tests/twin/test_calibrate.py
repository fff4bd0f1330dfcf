"""A cost set of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kubesim.cost import load_cost_set
from kubesim.errors import InputError
from kubesim.twin.calibrate import Calibration, calibrate, write_cost_set
from kubesim.twin.designs import Extent
from kubesim.twin.fit import fit
from kubesim.twin.inside import run_tool
from kubesim.twin.realise import has_ipsets
from tests.twin.test_fit import BASE, designed


def test_the_file_is_a_cost_set_that_extends_its_base(tmp_path: Path) -> None:
    ways = designed(640, 4, 60)
    found = Calibration(fit(ways, BASE), ways, ways[:2], BASE)
    write_cost_set(found, tmp_path / "mine.yaml")
    made = load_cost_set(str(tmp_path / "mine.yaml"))
    assert made.name == "mine"
    assert made.price_ns("veth_transmit", 1, 0) == pytest.approx(640, rel=0.1)
    assert made.price_ns("udp_send", 1, 0) == BASE.price_ns("udp_send", 1, 0)
    written = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert written["extends"] == BASE.name
    assert set(written["operations"]) == {"veth_transmit", "iptables_rule", "route_lookup"}
    assert all(number["kind"] == "measured" for number in [written["operations"]["veth_transmit"]["fixed_ns"]])


def test_errors_are_relative_to_what_was_measured() -> None:
    ways = designed(640, 4, 60)
    found = Calibration(fit(ways, BASE), ways, [], BASE)
    assert max(abs(found.error(one)) for one in ways) < 0.1
    assert found.share_within(0.1, ways) == 1.0
    assert found.share_within(0.0, ways) == 0.0


def test_without_root_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InputError, match=r"^a twin needs root, .*: run it with sudo$"):
        calibrate(extent=Extent.QUICK)


def test_a_tool_that_may_not_be_run_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ipset").write_text("no program")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^ipset: not installed where this user may run it$"):
        run_tool("ipset", "list")
    assert not has_ipsets()
