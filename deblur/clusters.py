"""From a profile in the job file to a Dask client, and what keeps workers well behaved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deblur.config import Cluster
from deblur.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 20.0  # seconds that a scheduler may take to answer

# One heavy thread a process: kernels, FFTs and codecs fight each other otherwise, and results could depend on it.
# Freed memory goes back to the system, or the scheduler takes it for a leak and pauses the worker for good.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


@contextmanager
def connect(cluster: Cluster, *, memory: int) -> Iterator[Client | None]:
    """A client for a profile; None for `serial`. `memory` is the limit of each local worker in bytes.

    Raises ConfigError when a scheduler can't be reached.
    """
    if cluster.kind == "serial":
        yield None
    elif cluster.kind == "local":
        with _local(cluster.workers or os.cpu_count() or 1, memory) as client:
            yield client
    else:
        with _join(str(cluster.address)) as client:
            yield client


@contextmanager
def _local(workers: int, memory: int) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.scheduler.allowed-failures": 3,
        "distributed.worker.memory.terminate": 0.98,
        "distributed.admin.tick.limit": "30s",  # compiling a kernel holds the interpreter for seconds
    }
    # loopback: a scheduler unpickles what reaches its port
    with dask.config.set(settings):
        with deaf_to_interrupts():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                memory_limit=memory,
                dashboard_address="127.0.0.1:0",
                silence_logs=40,
            )
        with cluster as local, Client(local) as client:
            yield client


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here, and what they start, don't get SIGINT; this one still does.

    A terminal sends Ctrl-C to every process of a job, but only the one that holds the ledger knows what to
    do: it stops the others. Of themselves workers would die with a traceback each, and an embedded server
    too early.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started later, it would open the mask again
    over = threading.Event()
    threading.Thread(target=over.wait, name="deblur-interrupts", daemon=True).start()  # gets SIGINT meanwhile
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        over.set()


@contextmanager
def _join(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"cluster.address {address}: no scheduler answers there ({error}); start one or correct it"
        ) from None
    with client:
        yield client
