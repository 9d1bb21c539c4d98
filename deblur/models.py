"""Which network a run restores with: a file that the job names, or the package's, kept in the archive by its digest.

So every worker computes with the same weights, and a run that is years old can be resumed, repaired and explained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.resources import files

from deblur.config import RestoreOptions
from deblur.deconv.network import LARGEST, SHIPPED, Network, shipped
from deblur.errors import ConfigError, StoreError
from deblur.place import Place, place
from deblur.store import Problem, sha256_file
from deblur.store.durable import write_atomic, write_new
from deblur.window import RestoreSettings

FOLDER = "models"


def network_of(options: RestoreOptions) -> Network | None:
    """The network of a job; None unless its method is "hybrid". Raises ConfigError for a file that isn't one."""
    if options.method != "hybrid":
        return None
    provider = options.provider or "CPU"
    if options.network is None:
        return shipped(provider)
    try:
        with place(options.network).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(
            f"restore.network {options.network} can't be read ({error.strerror}): check the path"
        ) from None
    return _opened(data, provider, options.network)


def keep(archive: Place, network: Network) -> None:
    """Put the weights where the archive's workers find them."""
    (archive / FOLDER).mkdir(exist_ok=True)
    write_new(archive / FOLDER / f"{network.digest}.onnx", network.data)


def kept(archive: Place, settings: RestoreSettings) -> Network | None:
    """The network that a run was planned with. Raises StoreError where it is gone, damaged, or runs otherwise here."""
    if settings.network is None:
        return None
    digest = settings.network.split()[0]
    path = archive / FOLDER / f"{digest}.onnx"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path} can't be read ({error.strerror}): put the weights of that run there"
        ) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(f"{path} is damaged: put the weights of that run there again")
    network = _opened(data, settings.provider, str(path))
    if network.identity != settings.network:
        raise StoreError(
            f"the run wants {settings.network.split(' ', 1)[1]} and this worker has "
            f"{network.identity.split(' ', 1)[1]}: give all workers the same packages, or start a new run"
        )
    return network


def problems(archive: Place, wanted: Iterable[str]) -> Iterator[Problem]:
    """Weights that are damaged, and those of the `wanted` digests that are gone."""
    there = {path.name.removesuffix(".onnx"): path for path in (archive / FOLDER).glob("*.onnx")}
    for digest in sorted({*there, *wanted}):
        key = f"{FOLDER}/{digest}.onnx"
        if digest not in there:
            yield Problem("metadata", key, f"{archive / key} is missing: runs were made with these weights")
        elif sha256_file(there[digest]) != digest:
            yield Problem("metadata", key, f"{archive / key} is damaged: its bytes have another sha256")


def mend(archive: Place, key: str) -> None:
    """Put weights there again if they are the package's own. Raises StoreError for others."""
    data = files("deblur.deconv").joinpath(SHIPPED).read_bytes()
    if key != f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.onnx":
        raise StoreError(
            f"these weights are not this package's: put the file that `deblur train` wrote at {key}"
        )
    write_atomic(archive / key, data)


@lru_cache(maxsize=2)
def _opened(data: bytes, provider: str, name: str) -> Network:
    return Network(data, provider=provider, name=name)
