"""Files that survive a crash: a thing is under its final name only when all of it is on the disk.

In an object store a PUT is one act and durable, but nothing can be renamed: there a folder comes to be by the object
that makes it one, its `zarr.json`, which is written last and only where none is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deblur.errors import StoreError
from deblur.place import ObjectPlace, Place, below, files_below

GROUP = "zarr.json"  # what makes a folder a Zarr group


def canonical(value: object) -> str:
    """JSON with one spelling for one value, so that its digest means something.

    Raises StoreError for what JSON can't hold exactly (NaN included).

    >>> canonical({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return _escaped(text).decode()
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"can't store as JSON: {error}; use numbers, text, lists and mappings only"
        ) from None


def _escaped(text: str) -> bytes:
    """JSON as UTF-8; the surrogates that stand for the bytes of a file name that is none are escaped."""
    return text.encode("utf-8", "backslashreplace")


def digest_of(value: object) -> str:
    """The sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_of_all(values: Iterable[object], *, after: object = None) -> str:
    """What `digest_of([…])` gives, or `digest_of([after, […]])`, of values that are not held together."""
    total = hashlib.sha256(b"[" if after is None else f"[{canonical(after)},[".encode())
    comma = ""
    for value in values:
        total.update(f"{comma}{canonical(value)}".encode())
        comma = ","
    total.update(b"]" if after is None else b"]]")
    return total.hexdigest()


def sha256_file(path: Place) -> str:
    """The sha256 of a file's bytes. Raises StoreError where there is no such file."""
    try:
        if isinstance(path, ObjectPlace):
            total = hashlib.sha256()
            for block in path.blocks():
                total.update(block)
            return total.hexdigest()
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
        raise StoreError(f"can't settle {path}: {error.strerror}; is the disk full or gone?") from None


def settle_folders(folders: Iterable[Place]) -> None:
    """Force the names in these folders to the disk: without it a crash can lose a file that was synced."""
    if os.name == "nt":
        return  # folders can't be opened there; NTFS journals names itself
    for folder in sorted({folder for folder in folders if isinstance(folder, Path)}):
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


@contextmanager
def appearing(path: Place) -> Iterator[Path]:
    """A folder of this machine to fill; at the end of the block it is at `path`, whole or not at all.

    Raises FileExistsError (or another OSError) where something is there.
    """
    with _staging(path) as folder:
        yield folder
        settle_tree(folder)
        _appear(folder, path)


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """The same in the place of what is there. A crash in between leaves nothing there."""
    with _staging(path) as folder:
        yield folder
        settle_tree(folder)
        remove_tree(path)
        _appear(folder, path)


@contextmanager
def _staging(path: Place) -> Iterator[Path]:
    if isinstance(path, ObjectPlace):
        with tempfile.TemporaryDirectory(prefix="deblur-") as scratch:
            yield Path(scratch)
        return
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.staging")
    beside.mkdir(parents=True)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _appear(folder: Path, path: Place) -> None:
    if isinstance(path, ObjectPlace):
        if (path / GROUP).is_file():
            raise FileExistsError(17, "exists already", str(path))
        path.delete_tree()  # of a creation or a removal that was killed
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if file.is_file() and name != GROUP:
                (path / name).write_bytes(file.read_bytes())
        if not (path / GROUP).create((folder / GROUP).read_bytes()):
            raise FileExistsError(17, "exists already", str(path))
    else:
        os.rename(folder, path)
        settle_folders([path.parent, path.parent.parent])  # its parent may be new as well


def remove_tree(path: Place) -> None:
    """Remove a folder: away from its name in one act, then away from the disk. Harmless where there is none."""
    if isinstance(path, ObjectPlace):
        path.delete_tree()
        return
    hidden = path.with_name(f".{path.name}.gone")
    shutil.rmtree(hidden, ignore_errors=True)  # of a removal that was killed
    if path.exists():
        os.rename(path, hidden)
        settle_folders([path.parent])
        shutil.rmtree(hidden, ignore_errors=True)


def move_tree(source: Place, target: Place) -> None:
    """Put a folder in the place of another. A crash in between leaves none there, and the source as it was."""
    remove_tree(target)
    if isinstance(source, ObjectPlace):
        files = sorted((file for file, _ in source.walk()), key=lambda file: file == source / GROUP)
        for file in files:  # what makes it a folder comes last
            (target / below(file, source)).write_bytes(file.read_bytes())
        remove_tree(source)
    else:
        os.rename(source, str(target))
        settle_folders([target.parent])


def write_atomic(path: Place, data: bytes | Iterator[bytes]) -> None:
    """Replace a file as one act: readers see the old bytes or the new ones, also across a crash.

    `data`: in one piece or, for what may be long, piece by piece.
    """
    pieces = (data,) if isinstance(data, bytes) else data
    if isinstance(path, ObjectPlace):
        path.write_bytes(b"".join(pieces))
        return
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with beside.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StoreError(
            f"can't write {path}: {error.strerror}; check the space and the rights there"
        ) from None
    settle_folders([path.parent])


def write_new(path: Place, data: bytes) -> bool:
    """Write a small file that wasn't there, as one act; False where it was. Of several who try at once one succeeds.

    By `link`, which fails where the name exists, on NFS too; in an object store by a create-only PUT.
    """
    if isinstance(path, ObjectPlace):
        return path.create(data)
    beside = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the name without the content
        os.link(beside, path)
    except (FileExistsError, FileNotFoundError):  # not found: swept by whoever came first
        return False
    finally:
        beside.unlink(missing_ok=True)
    settle_folders([path.parent])
    return True


def copy_file(source: Place, target: Place, digest: str) -> None:
    """Copy a file whose sha256 is known: under its name only when all of it is there and right.

    Raises StoreError where the source is not what the digest says.
    """
    if isinstance(source, ObjectPlace) or isinstance(target, ObjectPlace):
        _transfer(source, target, digest)
        return
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, beside)  # a reflink where the file system can
        if settle(beside) != digest:
            raise StoreError(f"{source} is not what was written there: run `deblur verify` on that run")
        beside.replace(target)
    except OSError as error:
        raise StoreError(f"can't copy {source} to {target}: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


def sweep_partials(folder: Place) -> None:
    """Remove what writers that were killed left below; only where nobody else writes."""
    for left in partials_below(folder):
        left.unlink(missing_ok=True)


def partials_below(folder: Place) -> list[Place]:
    """What writers leave below that are killed, or at it; none in an object store, where a PUT is whole or not there."""
    return [] if isinstance(folder, ObjectPlace) else list(folder.rglob("*.partial"))


def copy_tree(source: Place, target: Place) -> None:
    """Copy every (small) file below a folder."""
    for file, _ in files_below(source):
        at = target / below(file, source)
        at.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(at, file.read_bytes())


def _transfer(source: Place, target: Place, digest: str) -> None:
    """The bytes that were hashed are those that are written: the store's own copy could be of others."""
    try:
        data = source.read_bytes()
    except OSError as error:
        raise StoreError(f"can't copy {source} to {target}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(f"{source} is not what was written there: run `deblur verify` on that run")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, data)


def json_bytes(value: object) -> bytes:
    """JSON that people can read, keys sorted. Raises StoreError for what JSON can't hold."""
    canonical(value)
    return _escaped(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def write_json(path: Place, value: object) -> None:
    """Replace a JSON file as one act."""
    write_atomic(path, json_bytes(value))


def read_json(path: Place, *, what: str) -> dict[str, Any]:
    """A JSON object from a file; StoreError in one line where it is missing or damaged.

    `what` names the thing to the reader of that line.
    """
    try:
        return _parsed(path.read_bytes(), path, what)
    except FileNotFoundError:
        raise StoreError(f"no {what} at {path}: check the path") from None
    except OSError as error:
        raise StoreError(f"can't read the {what} at {path}: {error.strerror}") from None


def read_seen(path: Place, *, what: str) -> tuple[dict[str, Any], str]:
    """The same, and what `write_seen` wants to know of it; ({}, "") where there is nothing yet."""
    if not isinstance(path, ObjectPlace):
        return (read_json(path, what=what) if path.exists() else {}), ""
    try:
        data, version = path.read_version()
    except FileNotFoundError:
        return {}, ""
    return _parsed(data, path, what), version


def write_seen(path: Place, value: object, seen: str) -> bool:
    """Replace a JSON file that is still as it was `seen`; False where somebody changed it meanwhile.

    An object store makes sure of that; on a disk the caller's lease does.
    """
    data = json_bytes(value)
    if isinstance(path, ObjectPlace):
        return path.replace_if(seen, data) if seen else path.create(data)
    write_atomic(path, data)
    return True


def _parsed(data: bytes, path: Place, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data.decode())
    except ValueError:
        raise StoreError(f"the {what} at {path} is damaged: restore it from a copy") from None
    if not isinstance(value, dict):
        raise StoreError(f"the {what} at {path} is not a JSON object: restore it from a copy")
    return value


def write_checked(path: Place, value: Mapping[str, Any]) -> None:
    """The same with a digest of the value in it, so that `read_checked` sees any damage."""
    write_json(path, with_digest(value))


def read_checked(path: Place, *, what: str, keys: Iterable[str]) -> dict[str, Any]:
    """What `write_checked` wrote; StoreError where it isn't that any more. `keys`: all that there may be."""
    return checked(read_json(path, what=what), path, what=what, keys=keys)


def checked(value: dict[str, Any], path: Place, *, what: str, keys: Iterable[str]) -> dict[str, Any]:
    """A value without the digest in it; StoreError where it isn't the one that was written."""
    if not is_intact(value, keys=keys):
        raise StoreError(f"the {what} at {path} is damaged: restore it from a copy")
    return {key: part for key, part in value.items() if key != "sha256"}


def with_digest(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the digest of itself as `sha256`."""
    return {**value, "sha256": digest_of(dict(value))}


def is_intact(value: Mapping[str, Any], *, keys: Iterable[str]) -> bool:
    """Whether a mapping is as `with_digest` left it, or was written before there were such digests."""
    told = {key: part for key, part in value.items() if key != "sha256"}
    return set(told) <= set(keys) and value.get("sha256", digest_of(told)) == digest_of(told)


def lines_of(records: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Records as JSON lines, in canonical spelling."""
    return (f"{canonical(dict(record))}\n".encode() for record in records)
