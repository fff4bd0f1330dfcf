"""Simulated queues recover what theory says of them, within 99 % confidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, stats

from kubesim.engine import ENGINES, UNLIMITED, Plan, Trace
from kubesim.stats import theory

SCALE = 1_000_000
"""Nanoseconds per unit of time: rounding is far below what is tested."""

PACKETS = 20_000
REPLICATIONS = 12
Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def plan_of(arrivals: npt.NDArray[np.float64], services: npt.NDArray[np.float64], servers: int, places: int) -> Plan:
    """Packets through stations in a row, each with so many servers."""
    visits = services.shape[1]
    return Plan(
        release_ns=np.rint(arrivals * SCALE).astype(np.int64),
        station=np.tile(np.arange(visits), (len(arrivals), 1)),
        service_ns=np.maximum(1, np.rint(services * SCALE)).astype(np.int64),
        servers=np.full(visits, servers),
        capacity=np.full(visits, places),
    )


def simulate(
    seed: int, load: float, draw: Draw, servers: int = 1, visits: int = 1, places: int = UNLIMITED
) -> tuple[Plan, Trace]:
    """Poisson arrivals, services of mean 1, at a load per server."""
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1 / (load * servers), PACKETS))
    plan = plan_of(arrivals, np.column_stack([draw(random, PACKETS) for _ in range(visits)]), servers, places)
    return plan, ENGINES["simpy"](plan)


def exponential(random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Exponential services of mean 1."""
    return random.exponential(1.0, count)


def fixed(_random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Services of length 1."""
    return np.ones(count)


def mean_waiting(trace: Trace, visit: int = 0) -> float:
    """Mean waiting time at a visit, behind a warm-up, in units of time."""
    return float(trace.waiting_ns()[PACKETS // 10 :, visit].mean()) / SCALE


def assert_mean(samples: list[float], expected: float) -> None:
    """Whether the expectation is inside the 99 % confidence interval of independent replications."""
    half = stats.t.ppf(0.995, len(samples) - 1) * np.std(samples, ddof=1) / np.sqrt(len(samples))
    assert abs(np.mean(samples) - expected) <= half, (np.mean(samples), half, expected)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_mm1(load: float) -> None:
    samples = [mean_waiting(simulate(seed, load, exponential)[1]) for seed in range(REPLICATIONS)]
    assert_mean(samples, theory.mm1_mean_waiting(load, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_md1(load: float) -> None:
    samples = [mean_waiting(simulate(seed, load, fixed)[1]) for seed in range(REPLICATIONS)]
    assert_mean(samples, theory.md1_mean_waiting(load, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("servers", [2, 5])
def test_mmc(servers: int) -> None:
    samples = [mean_waiting(simulate(seed, 0.8, exponential, servers)[1]) for seed in range(REPLICATIONS)]
    assert_mean(samples, theory.mmc_mean_waiting(0.8 * servers, 1.0, servers))


@pytest.mark.slow
def test_a_tandem_of_exponential_servers_is_a_row_of_mm1() -> None:
    """Burke: what leaves M/M/1 is Poisson, so each station waits as if it were alone."""
    runs = [simulate(seed, 0.7, exponential, visits=3)[1] for seed in range(REPLICATIONS)]
    for visit in range(3):
        assert_mean([mean_waiting(trace, visit) for trace in runs], theory.mm1_mean_waiting(0.7, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(("load", "places"), [(0.8, 5), (1.2, 3)])
def test_mm1k_loses_what_theory_says(load: float, places: int) -> None:
    samples = [
        float(simulate(seed, load, exponential, places=places)[1].is_dropped().mean()) for seed in range(REPLICATIONS)
    ]
    assert_mean(samples, theory.mm1k_loss(load, places))


@pytest.mark.parametrize(("draw", "servers"), [(exponential, 1), (fixed, 1), (exponential, 3)])
def test_littles_law(draw: Draw, servers: int) -> None:
    """Mean number in the system is arrival rate times mean sojourn: exact over a span that begins and ends empty."""
    _, trace = simulate(3, 0.8, draw, servers)
    arrive, depart = trace.arrive_ns[:, 0], trace.depart_ns[:, 0]
    span = int(depart.max())
    changes = np.concatenate(
        [np.stack([arrive, np.ones_like(arrive)], 1), np.stack([depart, -np.ones_like(depart)], 1)]
    )
    changes = changes[np.argsort(changes[:, 0], kind="stable")]
    inside = np.cumsum(changes[:, 1])
    area = int((inside[:-1] * np.diff(changes[:, 0])).sum())
    assert area == int(trace.sojourn_ns()[:, 0].sum())
    assert area / span == pytest.approx(PACKETS / span * trace.sojourn_ns()[:, 0].mean())


def test_formulas_agree_with_each_other() -> None:
    assert theory.mmc_mean_waiting(0.7, 1.0, 1) == pytest.approx(0.7 / 0.3)
    assert theory.mg1_mean_waiting(0.7, 1.0, 1.0) == pytest.approx(theory.mm1_mean_waiting(0.7, 1.0))
    assert theory.mg1_mean_waiting(0.7, 1.0, 0.0) == pytest.approx(theory.md1_mean_waiting(0.7, 1.0))
    assert theory.erlang_c(2.0, 3) == pytest.approx(4 / 9)
    assert theory.mm1k_loss(1.0, 4) == pytest.approx(0.2)
    assert theory.mm1k_loss(0.5, 1) == pytest.approx(0.5 / 1.5)
    assert theory.mm1_sojourn_percentile(0.5, 1.0, 50) == pytest.approx(2 * np.log(2))
    assert theory.closed_sojourn_mean(1, 0.5, 1.0) == 1
    assert theory.closed_sojourn_mean(2, 1.0, 1.0) == pytest.approx(1.5), "half of the time the other one is there"
    assert theory.closed_sojourn_mean(500, 0.001, 1.0) == pytest.approx(1 / (1 - 0.5), rel=0.01), "many: nearly M/M/1"
    survival = integrate.quad(lambda time: theory.closed_sojourn_survival(4, 0.5, 1.0, time), 0, 60)[0]
    assert survival == pytest.approx(theory.closed_sojourn_mean(4, 0.5, 1.0)), "the mean is its integral"
    for function, arguments in ((theory.mm1_mean_waiting, (1.0, 1.0)), (theory.md1_mean_waiting, (2.0, 1.0))):
        with pytest.raises(ValueError, match="unstable"):
            function(*arguments)
