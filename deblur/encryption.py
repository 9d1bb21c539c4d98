"""Who may reach a Dask scheduler: whoever does can run code, so nobody but this machine, or those with a certificate."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deblur.errors import ConfigError

if TYPE_CHECKING:
    from deblur.config import Cluster

MAKE = "make certificates by `deblur certificates FOLDER` and name them as tls_ca, tls_cert, tls_key"
PARTS = ("ca.pem", "cert.pem", "key.pem")
HOUR = timedelta(hours=1)


def refuse_open(cluster: Cluster) -> None:
    """Raise ConfigError for a profile whose scheduler others could reach without a certificate.

    Local ones listen on loopback, dask-jobqueue makes certificates of its own, and Dask's operator puts its pods into
    the network of a Kubernetes cluster, where a network policy has to keep others out (`deploy/kubernetes/access.yaml`).
    """
    if cluster.kind == "ssh" and cluster.tls_ca is None:
        raise ConfigError(f"cluster.kind 'ssh' opens a port that runs code for whoever reaches it: {MAKE}")
    if cluster.kind == "address":
        address = urlsplit(str(cluster.address))
        here = address.scheme == "tcp" and _is_loopback(address.hostname or "")
        if not here and address.scheme not in ("tls", "inproc"):  # the last is of this very process
            raise ConfigError(
                f"cluster.address {cluster.address} is not encrypted, and no scheduler of this machine alone: start it "
                f"with tls://, {MAKE}; or give tcp://127.0.0.1:port"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_shared_kernels(folder: str | None) -> None:
    """Raise ConfigError where others could write to the folder that compiled kernels are loaded from, if it is there."""
    if not folder or os.name != "posix" or not os.path.isdir(folder):
        return
    top = os.path.realpath(folder)
    open_ = os.stat(top).st_mode & (stat.S_IXGRP | stat.S_IXOTH)  # others get to what is inside
    found = [
        [os.path.join(at, name) for name in (*dirs, *files)] for at, dirs, files in os.walk(top) if open_
    ]
    if any(map(_is_shared, (top, *chain.from_iterable(found)))):
        raise ConfigError(
            f"{folder} (NUMBA_CACHE_DIR, cluster.kernels) may be written by others, and code is loaded from it: name a "
            "folder of your own, and chmod 700 it"
        )


def _is_shared(path: str) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:  # another process replaced it just now
        return False
    written = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISLNK(found.st_mode)
    return bool(written) or found.st_uid not in (os.geteuid(), 0)


def make_certificates(folder: Path, *, hosts: Sequence[str] = (), days: int = 365) -> dict[str, Path]:
    """An authority, and one certificate with its key for client, scheduler and workers: {"tls_ca": path, …}, PEM.

    `hosts`: names and addresses that are written into it (Dask asks for the authority only). The authority's own key is
    kept nowhere: nobody can certify anybody else later. Raises ConfigError where there are certificates already.
    """
    taken = [name for name in PARTS if (folder / name).exists()]
    if taken:
        raise ConfigError(f"{folder / taken[0]} exists already: name another folder, or remove it")
    if days < 1:
        raise ConfigError(f"--days {days}: at least 1")
    texts = issue(hosts=hosts, days=days)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in zip(PARTS, texts, strict=True):
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
    return {f"tls_{name.removesuffix('.pem')}": (folder / name).resolve() for name in PARTS}


def issue(
    *, hosts: Sequence[str] = (), days: int = 365, late: timedelta = HOUR
) -> tuple[bytes, bytes, bytes]:
    """The same as texts, kept nowhere: authority, certificate, key. `late`: how far behind a clock may be that checks it."""
    import secrets

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.now(UTC)
    # a name of its own, so that authorities of two clusters are not taken for one another
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"deblur {secrets.token_hex(4)}")])
    node = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "deblur node")])
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]

    def certificate(subject: x509.Name, key: Any, *extensions: tuple[Any, bool]) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=authority,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - late,
            not_valid_after=now + timedelta(days=days),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    names = [_general(x509, host) for host in hosts]
    told = ((x509.SubjectAlternativeName(names), False),) if names else ()
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    ca = certificate(authority, keys[0], (x509.BasicConstraints(ca=True, path_length=0), True))
    cert = certificate(node, keys[1], (x509.BasicConstraints(ca=False, path_length=None), True), *told)
    return ca, cert, private


def _general(x509: Any, host: str) -> Any:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
