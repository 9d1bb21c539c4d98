"""From a profile in the job file to a Dask client, and what keeps workers well behaved.

All kinds end in the same: single-threaded worker processes with pinned libraries, a scheduler that gives a lost host up
within half a minute, and a client. What Dask has (jobqueue, the Kubernetes operator, SSH) is used as it is.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from deblur.config import Cluster
from deblur.encryption import issue, refuse_open, refuse_shared_kernels
from deblur.errors import ConfigError, DeblurError, PlanError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("deblur.clusters")
GONE = "the Dask scheduler went away: run again, finished units are kept"
PATIENCE = 20.0  # seconds that a scheduler may take to answer
MARGIN = 600  # seconds before the end of its walltime when a worker stops taking units
STAGGER = 180  # seconds, more or less: workers that began together don't end together

# One heavy thread a process: kernels, FFTs and codecs fight each other otherwise, and results could depend on it.
# Planes of megabytes are taken from one heap that keeps what is freed: mapped anew each time, more than half of a unit's
# CPU time went into page faults. What is kept is no more than the peak, and nobody is paused for it (SETTINGS).
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",  # the most that every glibc takes
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}
SETTINGS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": 3,
    "distributed.scheduler.worker-ttl": "20s",  # a host that is cut off is given up after this, not after 5 min
    "distributed.comm.timeouts.tcp": "12s",
    "distributed.comm.timeouts.connect": "12s",
    "distributed.worker.memory.target": False,  # workers hold no data that could be spilled, and pausing one
    "distributed.worker.memory.spill": False,  # for its unmanaged memory may be for ever (distributed#5999)
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.98,
    "distributed.admin.tick.limit": "30s",  # compiling a kernel holds the interpreter for seconds
}
JOBQUEUES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
    "htcondor": "HTCondorCluster",
}


@contextmanager
def connect(cluster: Cluster, *, memory: int, need: int = 0) -> Iterator[Client | None]:
    """A client for a profile; None for `serial`.

    `memory`: the limit of each worker that is started, bytes. `need`: what a unit takes at its peak; as many local
    workers are started by default as that leaves room for, and a worker it doesn't fit into is refused.
    Raises ConfigError when a scheduler can't be reached or a package is missing, PlanError for workers too small.
    """
    if cluster.kind == "serial":
        yield None
        return
    refuse_open(cluster)
    refuse_shared_kernels(cluster.kernels)
    import dask
    import distributed  # noqa: F401 (its defaults must be there before ours are set, and stay when ours go)

    environment = worker_environment(cluster)
    settings = SETTINGS | {"distributed.nanny.pre-spawn-environ": environment} | _tls_settings(cluster)
    settings |= {"deblur.patience": patience_of(cluster)}
    with dask.config.set(settings), ExitStack() as stack:
        if cluster.kind == "local":
            client = stack.enter_context(_local(cluster, memory, need))
        elif cluster.kind == "address":
            client = stack.enter_context(_join(cluster))
        elif cluster.kind == "ssh":
            client = stack.enter_context(_launched(cluster, _ssh(cluster, memory)))
        elif cluster.kind == "kubernetes":
            client = stack.enter_context(_launched(cluster, _kubernetes(cluster, memory, environment)))
        else:
            client = stack.enter_context(_launched(cluster, _jobqueue(cluster, memory, environment)))
        _settle_in(client)
        refuse_small_workers(client, need)
        yield client


def _settle_in(client: Client) -> None:
    """What scheduler and workers keep for us, those that come later as well."""
    from deblur.capacity import Declared, Kept
    from deblur.tidy import Tidy

    client.register_plugin(Kept())  # a worker knows what it has before the scheduler counts on it
    client.register_plugin(Declared())
    client.register_plugin(Tidy())


def patience_of(cluster: Cluster) -> float:
    """Seconds that a run waits while it has no worker: local ones start at once or never, batch jobs may queue for days."""
    if cluster.patience is not None:
        return cluster.patience
    return {"local": 60.0, "address": 600.0, "ssh": 600.0}.get(cluster.kind, math.inf)


def patience_now() -> float:
    """The same of the cluster that `connect` holds."""
    import dask

    return float(dask.config.get("deblur.patience", math.inf))


def dashboard(client: Client) -> str:
    """Where to look on while it works, as a line for a person; empty where the scheduler has no HTTP server."""
    link = client.dashboard_link
    if not link:
        return ""
    if find_spec("bokeh") is None:
        return f"Dask metrics: {link.removesuffix('status')}metrics (a dashboard: pip install 'deblur[dashboard]')"
    return f"Dask dashboard: {link}"


def worker_environment(cluster: Cluster) -> dict[str, str]:
    """The environment of worker processes: pinned threads, and where compiled kernels are kept."""
    kernels = {"NUMBA_CACHE_DIR": cluster.kernels} if cluster.kernels else {}
    return WORKER_ENVIRONMENT | kernels


def places_of(client: Client, need: int) -> dict[str, int]:
    """{worker: how many units of `need` bytes it runs at once}: one a thread, as far as its memory goes."""
    return {address: _places(worker, need) for address, worker in _workers(client).items()}


def _workers(client: Client) -> dict[str, dict[str, Any]]:
    try:
        return dict(client.scheduler_info(n_workers=-1)["workers"])
    except (OSError, KeyError):  # Dask's own, for a connection that breaks; a broken one tells of no workers
        raise DeblurError(GONE) from None


def _places(worker: dict[str, Any], need: int) -> int:
    limit, threads = worker.get("memory_limit") or 0, worker.get("nthreads") or 1
    return int(min(threads, limit // need)) if limit and need else int(threads)


def too_small(client: Client, need: int, *, but: set[str]) -> list[str]:
    """A line for each worker that no unit fits into, and that is not among `but`; they are added to these."""
    found = {address for address, places in places_of(client, need).items() if not places} - but
    but |= found
    return [
        f"worker {address} has less than the {need // 2**20} MiB that a unit takes: it gets none"
        for address in sorted(found)
    ]


def refuse_small_workers(client: Client, need: int) -> None:
    """Raise PlanError where there are workers and a unit fits into none of them."""
    workers = _workers(client)
    if workers and not any(_places(worker, need) for worker in workers.values()):
        address, largest = max(workers.items(), key=lambda item: item[1].get("memory_limit") or 0)
        raise PlanError(
            f"no worker is large enough: {address} has {largest['memory_limit'] // 2**20} MiB, and a unit takes up to "
            f"{need // 2**20} MiB: start workers with more memory, or lower tiling.unit"
        )


def fitting_workers(need: int) -> int:
    """How many local workers there is room for: one a core, while each has the memory that a unit takes."""
    from distributed.system import MEMORY_LIMIT

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MEMORY_LIMIT // need if need else cores))


@contextmanager
def _local(cluster: Cluster, memory: int, need: int) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    with deaf_to_interrupts():
        # with certificates of its own: any user of this machine reaches loopback, and a scheduler unpickles what it gets
        started = LocalCluster(
            n_workers=cluster.workers or fitting_workers(need),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=_mutual(*(text.decode() for text in issue(late=timedelta(days=30)))),  # clocks jump
            memory_limit=memory,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,  # a worker's heartbeat into a closing scheduler is no news; units' errors come back
        )
    with started, Client(started) as client:
        yield client


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here, and what they start, don't get SIGINT; this one still does.

    A terminal sends Ctrl-C to every process of a job, but only the one that holds the ledger knows what to do: it stops
    the others. Of themselves workers would die with a traceback each, and an embedded server too early.
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
def _join(cluster: Cluster) -> Iterator[Client]:
    from distributed import Client

    address = str(cluster.address)
    client, reason = None, ""
    try:
        client = Client(address, timeout=PATIENCE, security=_security(cluster))
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if client is None:
        # A client that failed to start closes itself when it is collected. If that happens by chance while another
        # client starts, Dask waits for a lock that it holds itself; here nothing else is starting.
        gc.collect()
        raise ConfigError(
            f"cluster.address {address}: no scheduler answers there ({reason}); start one or correct it"
        )
    with client:
        yield client


@contextmanager
def _launched(cluster: Cluster, start: Callable[[], Any]) -> Iterator[Client]:
    """A client of a cluster that somebody else's manager starts for us, scaled as the profile says."""
    from distributed import Client

    try:
        with deaf_to_interrupts():
            started = start()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"cluster.kind {cluster.kind!r} could not be started: {reason}") from None
    with started, Client(started, timeout=PATIENCE) as client:
        if cluster.kind != "ssh":
            # adaptive also where the number is fixed: a job that ended or was lost is submitted again
            most = cluster.workers or 1
            started.adapt(minimum=most if cluster.minimum is None else cluster.minimum, maximum=most)
        yield client


def _jobqueue(cluster: Cluster, memory: int, environment: dict[str, str]) -> Callable[[], Any]:
    """A batch system through dask-jobqueue: a job is one worker of one thread."""
    make = _needed("dask_jobqueue", JOBQUEUES[cluster.kind], "slurm")
    told: dict[str, Any] = {
        "cores": 1,
        "processes": 1,
        "memory": f"{memory}B",
        "queue": cluster.queue,
        "account": cluster.account,
        "walltime": cluster.walltime,
        "interface": cluster.interface,
        "python": cluster.python,
        "job_extra_directives": list(cluster.directives),
        "job_script_prologue": [*_exports(environment), *cluster.prologue],
        "worker_extra_args": _lifetime(cluster.walltime),
        "security": _security(cluster) or True,  # certificates of its own: a reachable port runs code
        "shared_temp_directory": cluster.shared,
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
    }
    return lambda: make(**{key: value for key, value in told.items() if value not in (None, [])})


def _ssh(cluster: Cluster, memory: int) -> Callable[[], Any]:
    """A worker on every host but the first, which runs the scheduler; name it twice to have it work as well."""
    _needed("asyncssh", "connect", "ssh")
    from distributed import SSHCluster

    options = {"nthreads": 1, "memory_limit": memory, "n_workers": cluster.workers or 1}
    return lambda: SSHCluster(
        list(cluster.hosts),
        connect_options={"known_hosts": None} if cluster.trust_hosts else {},
        worker_options=options,
        scheduler_options={
            "port": 0,
            "dashboard_address": "127.0.0.1:0",
            "protocol": "tls",
        },
        remote_python=cluster.python,
        security=_security(cluster),
    )


def _kubernetes(cluster: Cluster, memory: int, environment: dict[str, str]) -> Callable[[], Any]:
    """Pods of the image through the operator of dask-kubernetes, which must run in the Kubernetes cluster."""
    make = _needed("dask_kubernetes.operator", "KubeCluster", "kubernetes")
    spec = kubernetes_spec(cluster, memory, environment)
    return lambda: make(custom_cluster_spec=spec, namespace=cluster.namespace, quiet=True)


def kubernetes_spec(cluster: Cluster, memory: int, environment: dict[str, str]) -> dict[str, Any]:
    """The DaskCluster resource that the operator is given."""
    make = _needed("dask_kubernetes.operator", "make_cluster_spec", "kubernetes")
    size = {"memory": str(memory), "cpu": "1"}
    spec: dict[str, Any] = make(
        name=f"deblur-{os.getpid()}",
        image=cluster.image,
        n_workers=0,
        env=environment | _as_environment(SETTINGS),
        resources={"requests": size, "limits": size},
        worker_command=["dask", "worker", "--nthreads", "1", "--memory-limit", str(memory)],
    )
    worker, mounts = spec["spec"]["worker"]["spec"], [claim.split(":", 1) for claim in cluster.claims]
    for container in worker["containers"]:
        container["volumeMounts"] = [{"name": name, "mountPath": path} for name, path in mounts]
    worker["volumes"] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name, _ in mounts]
    return spec


def _needed(module: str, name: str, extra: str) -> Any:
    """Something of an optional package. Raises ConfigError that says how to get it."""
    try:
        return getattr(import_module(module), name)
    except ImportError:
        raise ConfigError(
            f"cluster.kind needs the package {module.split('.')[0]}: pip install 'deblur[{extra}]'"
        ) from None


def _security(cluster: Cluster) -> Any:
    """TLS with the profile's certificates, None where it has none."""
    if cluster.tls_ca is None:
        return None
    return _mutual(cluster.tls_ca, str(cluster.tls_cert), str(cluster.tls_key))


def _mutual(ca: str, cert: str, key: str) -> Any:
    """TLS by which all know each other. Files, or what is in them."""
    from distributed.security import Security

    roles = ("client", "scheduler", "worker")
    certs, keys = {f"tls_{role}_cert": cert for role in roles}, {f"tls_{role}_key": key for role in roles}
    return Security(tls_ca_file=ca, require_encryption=True, **certs, **keys)


def _tls_settings(cluster: Cluster) -> dict[str, Any]:
    """The same as Dask's settings: SSH hands these to the processes that it starts, and not the object."""
    if cluster.tls_ca is None:
        return {}
    pair = {"cert": cluster.tls_cert, "key": cluster.tls_key}
    roles = ("client", "scheduler", "worker")
    files = {f"distributed.comm.tls.{role}.{part}": file for role in roles for part, file in pair.items()}
    return {
        "distributed.comm.tls.ca-file": cluster.tls_ca,
        "distributed.comm.require-encryption": True,
    } | files


def _lifetime(walltime: str | None) -> list[str]:
    """Workers end of themselves, one by one, before the batch system kills them all at once."""
    if walltime is None:
        return []
    days, _, clock = walltime.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return ["--lifetime", f"{max(60, total - MARGIN)}s", "--lifetime-stagger", f"{STAGGER}s"]


def _exports(environment: dict[str, str]) -> list[str]:
    return [f"export {key}={value!r}" for key, value in (environment | _as_environment(SETTINGS)).items()]


def _as_environment(settings: dict[str, Any]) -> dict[str, str]:
    """Dask's settings as the environment variables that its command line reads."""
    return {
        f"DASK_{key.replace('.', '__').replace('-', '_').upper()}": str(value)
        for key, value in settings.items()
    }
