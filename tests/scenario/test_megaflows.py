"""How many connections go to user space, and that the others find what they need."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from kubesim.scenario.megaflows import draw_cached
from kubesim.streams import Streams
from tests.scenarios import simulate


def upcalls(cni: Any, *, workload: str = "tcp_crr", **traffic: Any) -> pd.Series:
    """Upcalls of each connection."""
    result = simulate(cni=cni, cluster={"services": 3}, traffic={"workload": workload, **traffic})
    hops = result.hops()
    return hops.groupby("flow")["operation"].agg(lambda names: int((names == "ovs_upcall").sum()))


@pytest.mark.parametrize("proxy", [False, True])
def test_the_share_of_connections_is_as_set(*, proxy: bool) -> None:
    antrea = {"name": "antrea-geneve", "antrea_proxy": proxy}
    none, some, every = (upcalls({**antrea, "upcall_ratio": ratio}, transactions=400) for ratio in (0, 0.2, 1))
    assert not none.any()
    assert every.nunique() == 1, "they all have the same to ask"
    assert every.iloc[0] > 10
    assert set(some) == {0, every.iloc[0]}
    assert (some > 0).mean() == pytest.approx(0.2, abs=0.06)


def test_a_flow_asks_at_its_start_only() -> None:
    """What comes again and again is cached, however long a flow lives."""
    asked = [
        upcalls({"name": "antrea-geneve", "upcall_ratio": 1}, workload="udp_rr", transactions=count, clients=2).tolist()
        for count in (20, 40)
    ]
    assert asked[0] == asked[1]
    assert min(asked[0]) > 3


def test_weaves_process_is_asked_too_but_not_about_sleeve() -> None:
    assert (upcalls({"name": "weave", "upcall_ratio": 1}, transactions=20) > 0).all()
    assert not upcalls({"name": "weave"}, transactions=20).any()
    assert not upcalls({"name": "weave", "mode": "sleeve", "upcall_ratio": 1}, transactions=20).any()


def test_without_open_vswitch_nothing_is_cached() -> None:
    assert not draw_cached(None, 10, Streams(1)).any()
    assert draw_cached(0, 10, Streams(1)).all()
    assert not draw_cached(1, 10, Streams(1)).any()
    assert draw_cached(0.3, 10_000, Streams(1)).mean() == pytest.approx(0.7, abs=0.02)
