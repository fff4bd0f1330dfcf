"""Verdicts: what holds, what fails, and when the data cannot tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.experiment import CheckReport, Verdict, check
from kubesim.experiment.expectations import Bounds
from kubesim.experiment.verdicts import gravest, judge
from kubesim.stats.intervals import Interval
from tests.experiment.frames import table_of_runs

if TYPE_CHECKING:
    from kubesim.experiment.verdicts import Outcome

TWO_FACTORS: dict[str, list[Any]] = {"proxy": ["iptables", "nftables"], "cluster.services": [10, 1000]}


def only(report: CheckReport) -> Outcome:
    """The one outcome of a report."""
    (outcome,) = report.outcomes
    return outcome


def rules_and_time(proxy: str, services: int, replication: int) -> float:
    """A measure that grows with Services under iptables, with noise that both proxies share."""
    return 1000 + 50 * replication + (services if proxy == "iptables" else 0)


@pytest.mark.parametrize(
    ("expectation", "verdict", "estimate"),
    [
        ("difference(p50, proxy=iptables, proxy=nftables, services=1000) within 1000 ± 1 ns", "holds", 1000),
        ("difference(p50, proxy=iptables, proxy=nftables) > 5 ns", "holds", 10),
        ("difference(p50, proxy=iptables, proxy=nftables) > 500 ns", "fails", 10),
        ("ratio(p50, proxy=iptables, proxy=nftables, cluster.services=1000) > 1.5", "holds", 2050 / 1050),
        ("slope(p50 ~ services, proxy=iptables) within 0.9 to 1.1 ns", "holds", 1),
        ("slope(p50 ~ services) within 0 ± 0.1 ns", "fails", 1),
        ("slope(p50 ~ services, proxy=nftables) within 0 ± 0.1 ns", "holds", 0),
        ("value(p50, proxy=nftables) < 1 ms", "holds", 1050),
        ("value(p50, proxy=nftables) > 1 ms", "fails", 1050),
        ("value(p50, proxy=nftables) < 1.06 us", "cannot tell", 1050),
        ("p50 < 10 us", "holds", 2050),
    ],
)
def test_each_kind_of_expectation(expectation: str, verdict: str, estimate: float) -> None:
    found = only(check(table_of_runs(TWO_FACTORS, rules_and_time), expect=[expectation]))
    assert found.verdict.value == verdict
    assert found.worst is not None
    assert found.worst.interval.estimate == pytest.approx(estimate)
    assert found.worst.interval.replications == 3


def test_it_has_to_hold_for_each_combination_and_the_worst_is_named() -> None:
    frame = table_of_runs(TWO_FACTORS, rules_and_time)
    found = only(check(frame, expect=["difference(p50, proxy=iptables, proxy=nftables) > 100 ns"]))
    assert found.verdict is Verdict.FAILS
    assert found.worst is not None
    assert found.worst.levels == {"cluster.services": "10"}
    assert found.counts == {Verdict.HOLDS: 1, Verdict.CANNOT_TELL: 0, Verdict.FAILS: 1}
    assert "1 of 2 combinations" in found.over
    assert "worst: cluster.services = 10" in found.message


def test_combinations_of_which_one_side_was_run_are_left_out_and_counted() -> None:
    frame = table_of_runs(TWO_FACTORS, rules_and_time)
    frame = frame[~((frame["proxy"] == "nftables") & (frame["cluster.services"] == 10))]
    found = only(check(frame, expect=["difference(p50, proxy=iptables, proxy=nftables) > 100 ns"]))
    assert (found.verdict, found.combinations, found.left_out) == (Verdict.HOLDS, 1, 1)
    with pytest.raises(InputError, match=r"expect\.0: no two runs differ in proxy alone"):
        check(frame, expect=["difference(p50, proxy=iptables, proxy=nftables, services=10) > 100 ns"])


def test_nothing_holds_over_nothing() -> None:
    one, other = (
        table_of_runs({"cni": [cni], "proxy": [proxy]}, lambda *_: 1.0)
        for cni, proxy in (("flannel", "iptables"), ("cilium", "cilium-ebpf"))
    )
    frame = pd.concat([one, other], ignore_index=True)
    with pytest.raises(InputError, match="no two runs differ in proxy alone: cni changes with it"):
        check(frame, expect=["ratio(p50, proxy=iptables, proxy=cilium-ebpf) > 0.1"])
    with pytest.raises(InputError, match="no run has cni = flannel, proxy = cilium-ebpf"):
        check(frame, expect=["value(p50, cni=flannel, proxy=cilium-ebpf) < 1 s"])
    frame["cluster.services"] = [None, None, None, 10.0, 10.0, 10.0]
    ordered = frame[["run", "cni", "proxy", "cluster.services", "replication", "latency_p50_ns", "seed"]]
    with pytest.raises(InputError, match=r"no two runs differ in cluster\.services alone: cni, proxy change with it"):
        check(ordered, expect=["slope(p50 ~ services) < 1 s"])
    found = only(check(ordered, expect=["value(p50, services=10) < 1 s"]))
    assert found.combinations == 1
    assert only(check(ordered, expect=["value(p50, services=null) < 1 s"])).combinations == 1


def test_one_replication_cannot_tell_and_says_what_helps() -> None:
    found = only(check(table_of_runs(TWO_FACTORS, rules_and_time, replications=1), expect=["p50 < 1 s"]))
    assert found.verdict is Verdict.CANNOT_TELL
    assert "replications: 5" in found.reason
    assert found.to_dict()["low"] is None


def test_costs_that_are_the_same_in_all_replications_need_no_width() -> None:
    frame = table_of_runs(TWO_FACTORS, lambda *_: 0.1)
    found = only(check(frame, expect=["slope(p50 ~ services) within 0 ± 0.001 ns"]))
    assert (found.verdict, found.interval_text, found.estimate_text) == (Verdict.HOLDS, "no spread", "0 ns each")


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_a_replication_without_a_number_cannot_tell(hole: float) -> None:
    frame = table_of_runs(TWO_FACTORS, lambda *levels: float(rules_and_time(*levels)))
    frame.loc[1, "latency_p50_ns"] = hole
    for expectation in (
        "p50 < 1 s",
        "ratio(p50, proxy=iptables, proxy=nftables) > 0.1",
        "slope(p50 ~ services, proxy=iptables) < 1 s",
    ):
        found = only(check(frame, expect=[expectation]))
        assert found.verdict is Verdict.CANNOT_TELL
        assert "latency_p50_ns is not a number in replication 1" in found.reason
    assert only(check(frame, expect=["value(p50, proxy=nftables) < 1 s"])).verdict is Verdict.HOLDS
    failing = only(check(frame, expect=["p50 > 1 s"]))
    assert failing.verdict is Verdict.FAILS, "what surely fails does so whatever the rest is"


def test_a_ratio_to_nothing_cannot_tell() -> None:
    frame = table_of_runs({"proxy": ["a", "b"]}, lambda proxy, _: float(proxy == "a"))
    assert only(check(frame, expect=["ratio(p50, proxy=a, proxy=b) > 1"])).verdict is Verdict.CANNOT_TELL


def test_sides_are_paired_by_replication_whatever_the_order_of_rows() -> None:
    frame = table_of_runs(TWO_FACTORS, rules_and_time).sample(frac=1, random_state=3)
    found = only(check(frame, expect=["difference(p50, proxy=iptables, proxy=nftables, services=10) within 10 ± 0 ns"]))
    assert found.verdict is Verdict.HOLDS


def test_levels_are_found_however_a_column_holds_them() -> None:
    frame = table_of_runs({"keep": [True, False], "services": [10.0, 1e4]}, lambda keep, *_: float(keep))
    for selector in ("keep=true", "keep=True", "keep=true, services=10000", "keep=true, services=1e4"):
        assert only(check(frame, expect=[f"value(p50, {selector}) >= 1 ns"])).verdict is Verdict.HOLDS
    texts = frame.assign(keep=frame["keep"].astype(str))
    assert only(check(texts, expect=["value(p50, keep=true) >= 1 ns"])).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ("value(p50, proxi=iptables) < 1 s", "at 'proxi': there is no such factor: did you mean 'proxy'?"),
        ("value(p50, proxy=iptable) < 1 s", "at 'proxy=iptable': 'iptable' is no level of proxy: did you mean 'iptables'"),
        ("value(p50, services=11) < 1 s", "'11' is no level of cluster.services: known: 10, 1000"),
        ("value(p50, servces=10) < 1 s", "at 'servces': there is no such factor: did you mean 'services'?"),
        ("value(p50, services=nan) < 1 s", "'nan' is no level of cluster.services"),
        ("ratio(p50, proxy=iptables, services=10) < 1", "at 'services=10': a ratio is between two levels of one factor, here proxy"),
        ("difference(p50, proxy=iptables, proxy=iptables) < 1 s", "this is compared with itself"),
        ("ratio(p50, proxy=iptables, proxy=nftables, proxy=iptables) < 1", "proxy is compared, and cannot have one level"),
        ("value(p50, proxy=iptables, proxy=nftables) < 1 s", "at 'proxy=nftables': proxy has a level already"),
        ("slope(p50 ~ proxy) < 1 s", "at 'proxy': a slope needs numbers, and 'iptables' is none"),
        ("value(p99) < 1 s", "the results have no 'latency_p99_ns': did you mean 'latency_p50_ns'?"),
        ("value(p99) <", "at its end: a number is needed"),
        ("value(p50, replication=1) < 1 s", "at 'replication': there is no such factor"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_with_these_results(expectation: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(table_of_runs(TWO_FACTORS, rules_and_time), expect=["p50 < 1 s", expectation])
    assert str(caught.value).startswith("expect.1: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_short_name_of_two_factors_is_refused() -> None:
    frame = table_of_runs({"a.size": [1, 2], "b.size": [1, 2]}, lambda *_: 1.0)
    with pytest.raises(InputError, match=r"at 'size': this may be a\.size or b\.size: give the full name"):
        check(frame, expect=["value(p50, size=1) < 1 s"])
    assert check(frame, expect=["value(p50, b.size=1) < 1 s"]).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "replication"}, "the table is no table of a sweep's runs: it has no column 'replication'"),
        ({"drop": "run"}, "it has no column 'run'"),
        ({"empty": True}, "the table holds no runs"),
        ({"twice": True}, "two rows are replication 0 of proxy = iptables, cluster.services = 10"),
        ({"text": True}, "replication is no number"),
    ],
)
def test_tables_that_are_not_of_a_sweep(change: dict[str, Any], message: str) -> None:
    frame = table_of_runs(TWO_FACTORS, rules_and_time)
    if "drop" in change:
        frame = frame.drop(columns=change["drop"])
    if "empty" in change:
        frame = frame.iloc[:0]
    if "twice" in change:
        frame = pd.concat([frame, frame], ignore_index=True)
    if "text" in change:
        frame["replication"] = "x"
    with pytest.raises(InputError) as caught:
        check(frame, expect=["p50 < 1 s"])
    assert message in str(caught.value)


def test_nothing_to_check_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to check"):
        check(table_of_runs(TWO_FACTORS, rules_and_time), expect=[])


@given(st.lists(st.sampled_from(Verdict), max_size=6))
def test_one_failure_outweighs_all(verdicts: list[Verdict]) -> None:
    found = gravest(verdicts)
    assert (found is Verdict.FAILS) == (Verdict.FAILS in verdicts)
    assert (found is Verdict.HOLDS) == (set(verdicts) <= {Verdict.HOLDS})


@given(st.floats(-5, 5), st.floats(0, 3), st.floats(-5, 5), st.floats(0, 3))
def test_verdicts_follow_the_interval(middle: float, half: float, low: float, width: float) -> None:
    interval = Interval(middle, middle - half, middle + half, 3)
    verdict = judge(interval, Bounds(low, low + width))
    points = np.linspace(interval.low, interval.high, 101)
    inside = (points >= low) & (points <= low + width)
    if verdict is Verdict.HOLDS:
        assert inside.all()
    elif verdict is Verdict.FAILS:
        assert not inside.any()
    else:
        assert interval.low < low <= interval.high or interval.low <= low + width < interval.high


@pytest.mark.parametrize("has_ends", [True, False])
def test_an_open_end_is_within_what_has_no_limit_there(has_ends: bool) -> None:
    interval = Interval(3.0, 2.0, math.inf, 3)
    assert judge(interval, Bounds(1, math.inf, has_ends)) is Verdict.HOLDS
    assert judge(interval, Bounds(-math.inf, 9, has_ends)) is Verdict.CANNOT_TELL
    assert judge(interval, Bounds(-math.inf, 1, has_ends)) is Verdict.FAILS
    assert judge(Interval(3.0, -math.inf, math.inf, 1), Bounds(1, math.inf, has_ends)) is Verdict.CANNOT_TELL


def verdicts_of_noise(true_ratio: float, limit: float, *, trials: int, replications: int = 5) -> list[Verdict]:
    """Verdicts on ``ratio > limit`` in simulated sweeps whose noise is a tenth of the measure and half shared."""
    found = []
    for trial in range(trials):
        random = np.random.default_rng([7, trial])
        common, own = random.normal(0, 5, replications), random.normal(0, 5, (2, replications))

        def measure(proxy: str, r: int, common: Any = common, own: Any = own) -> float:
            side = 0 if proxy == "a" else 1
            return float((true_ratio if side == 0 else 1) * 100 + common[r] + own[side][r])

        frame = table_of_runs({"proxy": ["a", "b"]}, measure, replications=replications)
        found.append(check(frame, expect=[f"ratio(p50, proxy=a, proxy=b) > {limit}"]).verdict)
    return found


def test_power_and_false_alarms() -> None:
    far = verdicts_of_noise(2.0, 1.5, trials=60)
    assert far.count(Verdict.HOLDS) >= 57, "what is clear is seen"
    assert far.count(Verdict.FAILS) == 0
    below = verdicts_of_noise(1.0, 1.5, trials=60)
    assert below.count(Verdict.FAILS) >= 57
    at_the_limit = verdicts_of_noise(1.5, 1.5, trials=300)
    # 2.5 % at each end; with 300 trials a share above 6 % has a probability below 0.1 % (binomial).
    assert at_the_limit.count(Verdict.FAILS) <= 18, "false alarms"
    assert at_the_limit.count(Verdict.HOLDS) <= 18
    assert at_the_limit.count(Verdict.CANNOT_TELL) >= 264
