"""Does the same work on many tasks at once, and gives the results in the tasks' order.

Owns the two engines: processes of this machine, and an existing Dask cluster. Which one does the
work, and with how many workers, changes no result. Refuses to know what the work is.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Literal, Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
On = Literal["local", "dask"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Engine(Protocol):
    """``work`` on each of ``tasks``, each result as soon as it and all before it are there."""

    def __call__(
        self, work: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[Result]: ...


@contextmanager
def local(workers: int | None = None) -> Iterator[Engine]:
    """Processes of this machine, as many as it has cores unless said otherwise; with one,
    everything happens in this process."""
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1:
        yield _here
        return
    # Spawned, for a fork takes over threads' locks in whatever state they are.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_by_ctrl_c)

    def engine(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        with _deaf_to_ctrl_c():
            futures = [pool.submit(work, task) for task in tasks]
        return (future.result() for future in futures)

    try:
        with _one_thread_each():
            yield engine
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A ctrl-C that comes meanwhile is heard afterwards.

    A terminal sends it to all processes at once, and what Python does by itself in one that is
    still importing is to print where it was. One that is started meanwhile stays deaf until
    `_end_by_ctrl_c`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_by_ctrl_c() -> None:
    """From now on a ctrl-C ends this process without a word, one that has come before too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start meanwhile compute with one thread each, unless the user says otherwise.

    There is one of them for each core, and numpy would start as many threads in each as there are
    cores. It reads these when it is imported, so they must stand before a process begins; Dask
    does the same for its own.
    """
    unsaid = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(unsaid, "1"))
    try:
        yield
    finally:
        for name in unsaid:
            del os.environ[name]


def _here(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    return map(work, tasks)


@contextmanager
def dask(scheduler: str | None = None, workers: int | None = None) -> Iterator[Engine]:
    """The Dask cluster whose scheduler has this address (``tcp://HOST:8786``); without one, a
    cluster of this machine's processes. Workers need this package, and the files that scenarios
    name, where they run. Needs the extra ``dask``."""
    from distributed import Client, LocalCluster

    if scheduler is not None:
        with Client(scheduler) as client:  # type: ignore[no-untyped-call]
            yield _on(client)
        return
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield _on(client)


def _on(client: object) -> Engine:
    def engine(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        # The same task may be asked for twice; its result is not worth keeping for that.
        futures = client.map(work, tasks, pure=False)  # type: ignore[attr-defined]
        return (future.result() for future in futures)

    return engine
