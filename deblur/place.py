"""Where things lie: a folder of this machine, or a prefix in an object store (`s3://`, `gs://`, `az://`).

A folder is a `pathlib.Path` as it is. An `ObjectPlace` has those of Path's verbs that deblur uses, so that one text
serves both; and what only object stores have: create-only and conditional writes. There is no rename and no append.
Credentials and the endpoint come from the environment (AWS_*, GOOGLE_*, AZURE_*), never from an address.
"""

from __future__ import annotations

import fnmatch
import io
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, overload
from urllib.parse import unquote

from deblur import bucket
from deblur.errors import ConfigError, StoreError
from deblur.redact import without_secrets

BLOCK = 8 << 20  #: bytes at a time, of an object that is read in pieces


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store tells of an object; the names are those of `os.stat_result`, and its version."""

    st_size: int
    st_mtime: float
    e_tag: str


@total_ordering
class ObjectPlace:
    """An object, or the prefix that plays a folder; nothing is asked of the store before a verb needs it.

    Reading verbs raise FileNotFoundError where there is no such object; every other fault is one line, a StoreError.
    """

    __slots__ = ("key", "root")

    def __init__(self, root: str, key: str = "") -> None:
        self.root = root  #: scheme and bucket, as s3://bucket
        self.key = key  #: below the bucket, without slashes at its ends

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectPlace, (self.root, self.key)

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __repr__(self) -> str:
        return f"ObjectPlace({str(self)!r})"

    def __hash__(self) -> int:
        return hash((self.root, self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPlace) and (self.root, self.key) == (other.root, other.key)

    def __lt__(self, other: ObjectPlace) -> bool:
        return (self.root, self.key.split("/")) < (other.root, other.key.split("/"))

    def __truediv__(self, name: str) -> ObjectPlace:
        return ObjectPlace(self.root, "/".join(part for part in (self.key, *name.split("/")) if part))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPlace:
        return ObjectPlace(self.root, self.key.rpartition("/")[0])

    @property
    def parents(self) -> tuple[ObjectPlace, ...]:
        found: tuple[ObjectPlace, ...] = ()
        place = self
        while place.key:
            place = place.parent
            found += (place,)
        return found

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def with_name(self, name: str) -> ObjectPlace:
        return self.parent / name

    def relative_to(self, other: ObjectPlace) -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key) if other.key else PurePosixPath(self.key)

    def resolve(self) -> ObjectPlace:
        return self

    def as_posix(self) -> str:
        return str(self)

    def as_uri(self) -> str:
        return str(self)

    @property
    def client(self) -> Any:
        """obstore's store of the bucket; keys in it begin at the bucket."""
        told = tuple(
            (k, v) for k, v in sorted(os.environ.items()) if k.startswith(("AWS_", "GOOGLE_", "AZURE_"))
        )
        return bucket.connection(self.root, told)

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether anything lies below."""
        return any(True for _ in self._listed(most=1))

    def stat(self) -> Stat:
        if not self.key:  # the bucket itself: some servers answer for it
            raise FileNotFoundError(2, "no such object", str(self))
        with self.told():
            return _stat(bucket.obstore().head(self.client, self.key))

    def read_bytes(self) -> bytes:
        return b"".join(self.blocks())

    def read_version(self) -> tuple[bytes, str]:
        """The whole content, and its version for `replace_if`."""
        with self.told():
            found = bucket.obstore().get(self.client, self.key)
            return bytes(found.bytes()), str(found.meta["e_tag"] or "")

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def blocks(self) -> Iterator[bytes]:
        """The whole content in pieces; an object that is replaced meanwhile is still read as it was."""
        with self.told():
            for block in bucket.obstore().get(self.client, self.key).stream(min_chunk_size=BLOCK):
                yield bytes(block)

    def read_tail(self, length: int) -> tuple[bytes, int]:
        """The last bytes (fewer where there aren't so many) and the size of the whole, by one request where it can."""
        with self.told():
            try:
                found = bucket.obstore().get(self.client, self.key, options={"range": {"suffix": length}})
                return bytes(found.bytes()), int(found.meta["size"])
            except (bucket.exceptions().NotSupportedError, bucket.exceptions().GenericError):
                size = self.stat().st_size  # Azure can't count from the end; others not beyond the beginning
                if size <= length:
                    return self.read_bytes(), size
                found = bucket.obstore().get_range(self.client, self.key, start=size - length, end=size)
                return bytes(found), size

    @overload
    def open(self, mode: Literal["rb"]) -> io.BytesIO: ...
    @overload
    def open(self, mode: Literal["r"] = "r", *, encoding: str = "utf-8") -> io.StringIO: ...
    def open(self, mode: str = "r", *, encoding: str = "utf-8") -> io.BytesIO | io.StringIO:
        """The whole content, to read as a file."""
        data = self.read_bytes()
        return io.BytesIO(data) if mode == "rb" else io.StringIO(data.decode(encoding))

    def iterdir(self) -> Iterator[ObjectPlace]:
        """What lies directly below: objects, and prefixes that play folders."""
        with self.told():
            found = bucket.obstore().list_with_delimiter(self.client, self.key or None)
        for key in found["common_prefixes"]:
            yield ObjectPlace(self.root, str(key).strip("/"))
        for meta in found["objects"]:
            yield ObjectPlace(self.root, meta["path"])

    def glob(self, pattern: str) -> Iterator[ObjectPlace]:
        """Those directly below whose names match; `pattern` has no slash."""
        return (place for place in self.iterdir() if fnmatch.fnmatchcase(place.name, pattern))

    def rglob(self, pattern: str) -> Iterator[ObjectPlace]:
        """The objects below whose names match."""
        return (place for place, _ in self.walk() if fnmatch.fnmatchcase(place.name, pattern))

    def walk(self) -> Iterator[tuple[ObjectPlace, Stat]]:
        """Every object below, with what the listing tells of it; a page at a time."""
        for meta in self._listed():
            yield ObjectPlace(self.root, meta["path"]), _stat(meta)

    def _listed(self, *, most: int = 1000) -> Iterator[Any]:
        with self.told():
            for page in bucket.obstore().list(self.client, self.key or None, chunk_size=most):
                yield from page

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: an object's name makes its folders."""

    def rmdir(self) -> None:
        if self.is_dir():
            raise OSError(f"{self} is not empty")

    def unlink(self, *, missing_ok: bool = False) -> None:
        if not missing_ok:
            self.stat()
        with suppress(FileNotFoundError), self.told():
            bucket.obstore().delete(self.client, self.key)

    def delete_tree(self) -> None:
        """Everything below; what says that a Zarr group is there goes first, so that nobody opens half of one."""
        with suppress(FileNotFoundError), self.told():
            bucket.obstore().delete(self.client, (self / "zarr.json").key)
        for page in _pages(place.key for place, _ in self.walk()):
            with self.told():
                bucket.obstore().delete(self.client, page)

    def write_bytes(self, data: bytes) -> None:
        """One PUT: readers see the old object or the new one."""
        with self.told():
            self._put(data, "overwrite")

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def create(self, data: bytes) -> bool:
        """Write only where nothing is; False where something was. Of several who try at once one succeeds.

        Raises StoreError for a server that ignores conditions.
        """
        self._require_conditions()
        return self._create(data)

    def replace_if(self, e_tag: str, data: bytes) -> bool:
        """Write only where the object is still of this version; False where it isn't."""
        self._require_conditions()
        return self._replace_if(e_tag, data)

    def _put(self, data: bytes, mode: Any) -> Any:
        # one request: a multipart upload that is killed leaves parts behind that are paid for and seen by nobody
        return bucket.obstore().put(self.client, self.key, data, mode=mode, use_multipart=False)

    def _create(self, data: bytes) -> bool:
        with self.told():
            try:
                self._put(data, "create")
            except (bucket.exceptions().AlreadyExistsError, bucket.exceptions().PreconditionError):
                return False
        return True

    def _replace_if(self, e_tag: str, data: bytes) -> bool:
        with self.told():
            try:
                self._put(data, {"e_tag": e_tag})
            except (bucket.exceptions().PreconditionError, FileNotFoundError):
                return False
        return True

    def _require_conditions(self) -> None:
        if self.client not in _PROBED:
            _probe(self.parent / f".probe-{uuid.uuid4().hex}")
            _PROBED.append(self.client)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Faults of the object store within the block as FileNotFoundError, or as a StoreError of one line."""
        try:
            yield
        except FileNotFoundError as error:
            if any(word in str(error).lower() for word in bucket.NO_BUCKET):
                raise bucket.fault(str(self), error) from None
            raise FileNotFoundError(2, "no such object", str(self)) from None
        except bucket.exceptions().BaseError as error:
            raise bucket.fault(str(self), error) from None


Place: TypeAlias = Path | ObjectPlace

_PROBED: list[Any] = []  # clients whose servers heed conditions


def place(address: str | os.PathLike[str] | ObjectPlace) -> Place:
    """What an address names. Raises ConfigError for one that can't be right or holds credentials.

    >>> str(place("s3://bucket/archives//north/") / "archive.json")
    's3://bucket/archives/north/archive.json'
    >>> place("archives/north").name
    'north'
    """
    if isinstance(address, ObjectPlace | Path):
        return address
    text = os.fspath(address)
    scheme, url, rest = text.partition("://")
    if not url:
        return Path(text)
    shown = without_secrets(text)
    if scheme == "file":
        return Path(unquote("/" + rest.partition("/")[2]))
    if scheme not in bucket.SCHEMES:
        known = ", ".join(f"{name}://" for name in bucket.SCHEMES[:3])
        raise ConfigError(f"{shown}: deblur knows no {scheme}:// here: give a folder, or {known}")
    container, _, key = rest.partition("/")
    parts = [part for part in key.split("/") if part]
    if "@" in container or "?" in rest or "#" in rest:
        raise ConfigError(
            f"{shown}: an address holds no user, query or fragment: set {bucket.CREDENTIALS[scheme]} in the environment"
        )
    if not container or not set(parts).isdisjoint((".", "..")):
        raise ConfigError(f"{shown}: write the address as {scheme}://bucket/folder")
    return ObjectPlace(f"{scheme}://{container}", "/".join(parts))


def read_tail(path: Place, length: int) -> tuple[bytes, int]:
    """The last bytes of a file or object (fewer where there aren't so many), and the size of the whole."""
    if isinstance(path, ObjectPlace):
        return path.read_tail(length)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - length))
        return file.read(), size


def listed(folder: Place, pattern: str) -> list[Place]:
    """What lies directly in a folder under names that match, sorted."""
    return [folder / name for name in sorted(found.name for found in folder.glob(pattern))]


def below(path: Place, top: Place) -> str:
    """The path of something relative to a folder that it is in, with slashes."""
    return path.as_posix().removeprefix(f"{top.as_posix()}/")


def files_below(path: Place) -> Iterator[tuple[Place, int]]:
    """Every file or object below, with its size."""
    if isinstance(path, ObjectPlace):
        yield from ((one, stat.st_size) for one, stat in path.walk())
    else:
        yield from ((one, one.stat().st_size) for one in sorted(path.rglob("*")) if one.is_file())


def told(path: Place) -> AbstractContextManager[None]:
    """Within the block an object store's faults, of whoever met them, are StoreErrors of one line."""
    return path.told() if isinstance(path, ObjectPlace) else nullcontext()


def is_remote(address: str | os.PathLike[str] | ObjectPlace) -> bool:
    """Whether an address names a place in an object store."""
    return isinstance(place(address), ObjectPlace)


def _stat(meta: Any) -> Stat:
    return Stat(int(meta["size"]), meta["last_modified"].timestamp(), str(meta["e_tag"] or ""))


def _pages(keys: Iterable[str]) -> Iterator[list[str]]:
    """At most a thousand at a time: what stores delete in one request."""
    page: list[str] = []
    for key in keys:
        page.append(key)
        if len(page) == 1000:
            yield page
            page = []
    if page:
        yield page


def _probe(at: ObjectPlace) -> None:
    """Try conditional writes on an object of our own. Raises StoreError where the server ignores them."""
    try:
        heeded = at._create(b"1") and not at._create(b"2")
        heeded = heeded and not at._replace_if('"0123456789abcdef0123456789abcdef"', b"3")
        heeded = heeded and at._replace_if(at.stat().e_tag, b"4")
    finally:
        with suppress(StoreError):
            at.unlink(missing_ok=True)
    if not heeded:
        raise StoreError(
            f"{at.root}: this server ignores conditional writes (If-None-Match, If-Match), so that two jobs could "
            "undo each other: keep the archive on one that heeds them"
        )
