"""Files that survive a crash: a thing is under its final name only when all of it is on the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deblur.errors import StoreError, TransientError

# What a network, a server or a cable may recover from by itself. A full disk or a missing right does not.
HICCUPS = {
    getattr(errno, name, None)
    for name in (
        *("EIO", "EAGAIN", "EINTR", "EBUSY", "ESTALE", "EREMOTEIO", "ETIMEDOUT", "ECONNRESET"),
        *("ECONNABORTED", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH"),
    )
} - {None}


def store_error(message: str, cause: BaseException) -> StoreError:
    """The error to raise for one of the system's: a TransientError where trying again may help."""
    return (TransientError if getattr(cause, "errno", None) in HICCUPS else StoreError)(message)


def canonical(value: object) -> str:
    """JSON with one spelling for one value, so that its digest means something.

    Raises StoreError for what JSON can't hold exactly (NaN included).

    >>> canonical({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"can't store as JSON: {error}; use numbers, text, lists and mappings only"
        ) from None


def digest_of(value: object) -> str:
    """The sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes. Raises StoreError where there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from None


def settle(path: Path) -> str:
    """Force a file that somebody else wrote to the disk, and return the sha256 of what is there."""
    try:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise store_error(
            f"can't settle {path}: {error.strerror}; is the disk full or gone?", error
        ) from None


def settle_folders(folders: Iterable[Path]) -> None:
    """Force the names in these folders to the disk: without it a crash can lose a file that was synced."""
    if os.name == "nt":
        return  # folders can't be opened there; NTFS journals names itself
    for folder in sorted(set(folders)):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def settle_tree(root: Path) -> None:
    """Force every file and folder below `root` to the disk."""
    folders = [root]
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            folders.append(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    settle_folders(folders)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file as one act: readers see the old bytes or the new ones, also across a crash."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise store_error(
            f"can't write {path}: {error.strerror}; check the space and the rights there", error
        ) from None
    settle_folders([path.parent])


def copy_file(source: Path, target: Path, digest: str) -> None:
    """Copy a file whose sha256 is known: under its name only when all of it is there and right.

    Raises StoreError where the source is not what the digest says.
    """
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, beside)  # a reflink where the file system can
        if settle(beside) != digest:
            raise StoreError(f"{source} is not what was written there: run `deblur verify` on that run")
        beside.replace(target)
    except OSError as error:
        raise store_error(f"can't copy {source} to {target}: {error.strerror}", error) from None
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file as one act; readable by people, keys sorted."""
    canonical(value)  # refuses what JSON can't hold
    write_atomic(path, (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, *, what: str) -> dict[str, Any]:
    """A JSON object from a file; StoreError in one line where it is missing or damaged.

    `what` names the thing to the reader of that line.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"no {what} at {path}: check the path") from None
    except OSError as error:
        raise StoreError(f"can't read the {what} at {path}: {error.strerror}") from None
    except ValueError:
        raise StoreError(f"the {what} at {path} is damaged: restore it from a copy") from None
    if not isinstance(value, dict):
        raise StoreError(f"the {what} at {path} is not a JSON object: restore it from a copy")
    return value


def write_checked(path: Path, value: Mapping[str, Any]) -> None:
    """The same with a digest of the value in it, so that `read_checked` sees any damage."""
    write_json(path, with_digest(value))


def read_checked(path: Path, *, what: str, keys: Iterable[str]) -> dict[str, Any]:
    """What `write_checked` wrote; StoreError where it isn't that any more. `keys`: all that there may be."""
    value = read_json(path, what=what)
    if not is_intact(value, keys=keys):
        raise StoreError(f"the {what} at {path} is damaged: restore it from a copy")
    value.pop("sha256", None)
    return value


def with_digest(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the digest of itself as `sha256`."""
    return {**value, "sha256": digest_of(dict(value))}


def is_intact(value: Mapping[str, Any], *, keys: Iterable[str]) -> bool:
    """Whether a mapping is as `with_digest` left it, or was written before there were such digests."""
    told = {key: part for key, part in value.items() if key != "sha256"}
    return set(told) <= set(keys) and value.get("sha256", digest_of(told)) == digest_of(told)


def lines_of(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Records as JSON lines, in canonical spelling."""
    return "".join(canonical(dict(record)) + "\n" for record in records).encode()
