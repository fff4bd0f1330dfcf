"""Where runs are run: in this process, in others on this machine's cores, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from kubesim.errors import InputError, KubesimError
from kubesim.scenario.provenance import run_id
from kubesim.scenario.simulation import summarise
from kubesim.scenario.spec import Scenario

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

EMBEDDED = "local"
"""The address of a Dask cluster that is started, and ends, with the sweep."""

_DEATHS_IN_A_ROW = 3
"""Times that workers may die without anything getting done before it is given up."""


_GLANCE_S = 1.0
"""How often a worker looks whether its parent is there."""

_PATIENCE = "20s"
"""How long a scheduler may take to answer."""


class Work(NamedTuple):
    """A run to do: which one, and its scenario as JSON."""

    key: tuple[int, int]
    scenario: str


class Done(NamedTuple):
    """A run that is done: which one, what it gave or why it makes no sense, and how long it took."""

    key: tuple[int, int]
    outcome: dict[str, Any]
    error: str | None
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where to run.

    Parameters
    ----------
    workers
        Processes; one per core if not given.
    dask
        Address of a Dask scheduler, ``local`` for one of its own; None for processes of this machine.
    """

    workers: int | None = None
    dask: str | None = None
    _client: Any = field(default=None, repr=False, compare=False)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Place]:
        """The place connected to its cluster, if it has one, for as many rounds of runs as are wanted.

        Raises
        ------
        InputError
            If there is no such cluster.
        """
        if self.dask is None or self._client is not None:
            yield self
            return
        with _client(self.dask, self.workers) as client:
            yield replace(self, _client=client)

    def processes(self, runs: int) -> int:
        """How many processes work on so many runs on this machine."""
        return min(self.workers or os.cpu_count() or 1, max(1, runs))

    def __str__(self) -> str:
        if self.dask is not None:
            return f"dask {self.dask}"
        return f"{self.workers or os.cpu_count() or 1} processes"

    def run(self, work: Sequence[Work]) -> Generator[Done]:
        """Run everything, as it comes; workers that die are replaced, and what they had begun is begun again.

        Raises
        ------
        KubesimError
            If they die whatever is done, or there is no cluster.
        """
        with self.opened() as place:
            yield from place._run(work)  # noqa: SLF001 - itself, connected

    def _run(self, work: Sequence[Work]) -> Generator[Done]:
        left = {one.key: one for one in work}
        deaths = 0
        while left:
            outcomes = self._attempt(list(left.values()))
            try:
                for done in outcomes:
                    deaths = 0
                    del left[done.key]
                    yield done
            except TerminatedWorkerError:
                deaths += 1
                if deaths == _DEATHS_IN_A_ROW:
                    raise KubesimError(
                        "worker processes were killed again and again, maybe for lack of memory: try fewer --workers"
                    ) from None
            finally:
                outcomes.close()

    def _attempt(self, work: list[Work]) -> Generator[Done]:
        if self._client is not None:
            return _with_dask(work, self._client)
        if self.processes(len(work)) == 1:
            return (run_one(*one) for one in work)
        return _with_processes(work, self.processes(len(work)))


def run_one(key: tuple[int, int], scenario: str) -> Done:
    """Run one scenario, in whichever process; what is kept of it, as plain values."""
    began = time.perf_counter()
    try:
        described = Scenario.model_validate_json(scenario)
        result = summarise(described)
        outcome = {
            "id": run_id(described),
            "provenance": result.provenance,
            "summary": {name: float(value) for name, value in result.summary.items()},
            "latencies": None if result.latencies is None else asdict(result.latencies),
            "breakdown": result.breakdown.astype(object).where(result.breakdown.notna(), None).to_dict("records"),
            "refusals": result.refusals,
            "notices": list(result.notices),
        }
    except KubesimError as error:
        return Done(key, {}, str(error), time.perf_counter() - began)
    return Done(key, outcome, None, time.perf_counter() - began)


def _with_processes(work: list[Work], workers: int) -> Generator[Done]:
    with joblib.parallel_config("loky", initializer=_serve, initargs=(os.getpid(),)):
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size="auto")
        outcomes = parallel(joblib.delayed(run_one)(*one) for one in work)
    yield from _closed_quietly(outcomes)


def _serve(parent: int) -> None:
    """Let a worker leave signals to its parent, and not outlive it.

    A terminal sends Ctrl-C to all processes, but the parent alone has to hear of it: it stops the others. One that is
    killed cannot.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_GLANCE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _with_dask(work: list[Work], client: Any) -> Generator[Done]:
    with joblib.parallel_config("dask", client=client):
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        outcomes = parallel(joblib.delayed(run_one)(*one) for one in work)
    yield from _closed_quietly(outcomes)


def _closed_quietly(outcomes: Generator[Done]) -> Generator[Done]:
    try:
        for outcome in outcomes:  # noqa: UP028 - "yield from" would close what is below where its warning is heard
            yield outcome
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # runs that are cancelled are no news to whoever cancels them
            outcomes.close()


@contextlib.contextmanager
def _client(address: str, workers: int | None) -> Iterator[Any]:
    """A client of a Dask cluster; TLS as Dask's own configuration says."""
    try:
        from distributed import Client, LocalCluster  # noqa: PLC0415 - an extra
    except ImportError:
        raise InputError("--dask needs Dask: pip install 'kubesim[dask]'") from None
    with contextlib.ExitStack() as stack:
        if address == EMBEDDED:
            cluster = LocalCluster(
                n_workers=workers or os.cpu_count() or 1, threads_per_worker=1, dashboard_address=None
            )
            target: Any = stack.enter_context(cluster)
        else:
            target = address
        try:
            client = Client(target, timeout=_PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(f"--dask {address}: there is no Dask scheduler to be reached: {error}") from None
        yield stack.enter_context(client)
