"""Closed formulas of queueing theory that simulations are held against (Kleinrock, Queueing Systems I, 1975)."""

from __future__ import annotations

import math


def _check_stable(load: float) -> None:
    if not 0 <= load < 1:
        raise ValueError(f"the queue is unstable: offered load per server {load}")


def mm1_mean_waiting(arrival_rate: float, service_rate: float) -> float:
    """Mean waiting time of M/M/1, in the inverse unit of the rates.

    Raises
    ------
    ValueError
        If the load is 1 or more.
    """
    return mmc_mean_waiting(arrival_rate, service_rate, 1)


def md1_mean_waiting(arrival_rate: float, service_time: float) -> float:
    """Mean waiting time of M/D/1 (Pollaczek and Khinchine, no variance).

    Raises
    ------
    ValueError
        If the load is 1 or more.
    """
    load = arrival_rate * service_time
    _check_stable(load)
    return load * service_time / (2 * (1 - load))


def mg1_mean_waiting(arrival_rate: float, mean_service: float, service_deviation: float) -> float:
    """Mean waiting time of M/G/1 (Pollaczek and Khinchine).

    Raises
    ------
    ValueError
        If the load is 1 or more.
    """
    load = arrival_rate * mean_service
    _check_stable(load)
    return arrival_rate * (mean_service**2 + service_deviation**2) / (2 * (1 - load))


def erlang_c(offered_load: float, servers: int) -> float:
    """Probability that an arrival has to wait in M/M/c (Erlang's second formula).

    Parameters
    ----------
    offered_load
        Arrival rate over service rate, in servers.
    servers
        Their number, c.

    Raises
    ------
    ValueError
        If the load is 1 or more per server.
    """
    _check_stable(offered_load / servers)
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = offered_load * blocking / (count + offered_load * blocking)
    return blocking / (1 - offered_load / servers * (1 - blocking))


def mmc_mean_waiting(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Mean waiting time of M/M/c.

    Raises
    ------
    ValueError
        If the load is 1 or more per server.
    """
    return erlang_c(arrival_rate / service_rate, servers) / (servers * service_rate - arrival_rate)


def mm1k_loss(load: float, places: int) -> float:
    """Probability that an arrival finds M/M/1/K full; the load may be 1 or more."""
    if math.isclose(load, 1.0):
        return 1 / (places + 1)
    return (1 - load) * load**places / (1 - load ** (places + 1))


def mm1_sojourn_percentile(arrival_rate: float, service_rate: float, percent: float) -> float:
    """A percentile of the sojourn time in M/M/1, which is exponential with the difference of the rates.

    Raises
    ------
    ValueError
        If the load is 1 or more.
    """
    _check_stable(arrival_rate / service_rate)
    return -math.log1p(-percent / 100) / (service_rate - arrival_rate)


def closed_sojourn_mean(clients: int, think_rate: float, service_rate: float) -> float:
    """Mean sojourn time at one exponential server of clients who each think for an exponential time in between."""
    found_inside = _found_inside(clients, think_rate, service_rate)
    return sum((inside + 1) * chance for inside, chance in enumerate(found_inside)) / service_rate


def closed_sojourn_survival(clients: int, think_rate: float, service_rate: float, time: float) -> float:
    """Probability that the same sojourn lasts longer than a time: an Erlang time after whom it finds inside."""
    longer = term = math.exp(-service_rate * time)
    total = 0.0
    for inside, chance in enumerate(_found_inside(clients, think_rate, service_rate)):
        total += chance * longer
        term *= service_rate * time / (inside + 1)
        longer += term
    return total


def _found_inside(clients: int, think_rate: float, service_rate: float) -> list[float]:
    """How likely a client finds how many others at the server, which is what these alone would be like at any time.

    It is the arrival theorem (S. S. Lavenberg and M. Reiser, J. Appl. Prob. 17 (1980) 1048–1061).
    """
    weights = [1.0]
    for outside in range(clients - 1, 0, -1):
        weights.append(weights[-1] * outside * think_rate / service_rate)
    return [weight / sum(weights) for weight in weights]
