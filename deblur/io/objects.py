"""Sources in object stores: what lies there, and copies of a few objects at a time for the readers of files.

An object is known by its size and ETag from the moment somebody looked at it. Whatever is read of it later is of that
version or a fault, so that no sequence becomes a mixture. Nothing is written to the store.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from socket import gethostname
from tempfile import gettempdir, mkdtemp
from typing import Any

from numpy.typing import NDArray

from deblur import bucket
from deblur.errors import ReadError, StoreError
from deblur.io import images, zarr_store
from deblur.io.reader import Opener, Reader, ReadOptions
from deblur.place import BLOCK, ObjectPlace, Place, Stat

KEPT = 4  #: copies at a time, those that are being made included
AHEAD = 2  #: of them made while the one before is decoded


class Seen(ObjectPlace):
    """An object as it was when somebody looked: `stat` tells of that moment and asks nobody."""

    __slots__ = ("seen",)

    def __init__(self, root: str, key: str, seen: Stat) -> None:
        super().__init__(root, key)
        self.seen = seen

    def __reduce__(self) -> tuple[Any, ...]:
        return Seen, (self.root, self.key, self.seen)

    def stat(self) -> Stat:
        return self.seen

    @property
    def condition(self) -> dict[str, str]:
        """obstore's options of a GET that the server refuses when the object is of another version."""
        tag = self.seen.e_tag
        if not tag or tag.startswith("W/"):  # by HTTP's rules a weak tag matches nothing
            return {}
        return {"if_match": f'"{_bare(tag)}"'}

    def check(self, meta: Any) -> None:
        """Raise StoreError unless an answer is of the version that was seen: not every server heeds conditions."""
        if (int(meta["size"]), _bare(meta["e_tag"])) != (self.seen.st_size, _bare(self.seen.e_tag)):
            raise self._changed()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Faults of the store within the block as StoreErrors; an object that changed or went is one, too."""
        try:
            with self.told():
                try:
                    yield
                except bucket.exceptions().PreconditionError:
                    raise self._changed() from None
        except FileNotFoundError:
            raise self._changed() from None

    def _changed(self) -> StoreError:
        # no ReadError: a frame is not broken because somebody writes to it now
        return StoreError(f"{self} changed while it was read: run again when nobody writes to it")

    def copy_to(self, path: Path) -> str:
        """Copy the object to a file; the sha256 of its bytes. Raises StoreError where it isn't what was seen."""
        free = shutil.disk_usage(path.parent).free
        if self.seen.st_size > free:
            raise StoreError(
                f"{self} has {self.seen.st_size} bytes, {gettempdir()} has room for {free}: set TMPDIR to a larger place"
            )
        digest = hashlib.sha256()
        with path.open("wb") as file, self.unchanged():
            found = bucket.obstore().get(self.client, self.key, options=self.condition)
            self.check(found.meta)
            for block in found.stream(min_chunk_size=BLOCK):
                data = bytes(block)
                file.write(data)
                digest.update(data)
        if path.stat().st_size != self.seen.st_size:
            raise self._changed()
        return digest.hexdigest()


def _bare(tag: str | None) -> str:
    return (tag or "").strip('"')  # Azure's listings leave the quotes out


def look(there: ObjectPlace) -> Seen | None:
    """The object at an address, if there is one."""
    try:
        return Seen(there.root, there.key, there.stat()) if there.key else None
    except FileNotFoundError:
        return None


def below(there: ObjectPlace) -> list[Seen]:
    """Every object below a prefix, as one listing tells."""
    return [Seen(file.root, file.key, stat) for file, stat in there.walk()]


def version(file: Place) -> tuple[int, int | str]:
    """Changes whenever a file or object does: size and time of change, or size and ETag."""
    stat = file.stat()
    if isinstance(stat, Stat):
        return stat.st_size, _bare(stat.e_tag) or str(stat.st_mtime)
    return stat.st_size, stat.st_mtime_ns


def matching(root: ObjectPlace, pattern: str) -> dict[str, list[Seen]]:
    """{name below `root`: its objects} of the objects and folders whose names match a glob, as `*/*.mp4`.

    `**` stands for any number of folders; names that begin with a dot match only what begins with one.
    """
    wanted = tuple(part for part in pattern.split("/") if part)
    found: dict[str, list[Seen]] = {}
    fits: dict[str, bool] = {}
    for file in below(root):
        if not file.seen.st_size and not file.suffix:
            continue  # consoles mark folders by empty objects
        parts = file.key.removeprefix(root.key).strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name not in fits:
                fits[name] = _fits(parts[:depth], wanted)
            if fits[name]:
                found.setdefault(name, []).append(file)
    return dict(sorted(found.items()))


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    hidden = bool(parts) and parts[0].startswith(".")
    if wanted[0] == "**":
        return _fits(parts, wanted[1:]) or (bool(parts) and not hidden and _fits(parts[1:], wanted))
    if not parts or (hidden and not wanted[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def objects_of(there: ObjectPlace) -> list[Seen]:
    """The object at an address; else what lies below it; else what a glob matches: nothing, where nothing is there."""
    single = look(there)
    return [single] if single is not None else below(there) or _globbed(there)


def _globbed(there: ObjectPlace) -> list[Seen]:
    parts = there.key.split("/")
    place = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root = ObjectPlace(there.root, "/".join(parts[:place]))
    found = matching(root, "/".join(parts[place:])) if place < len(parts) else {}
    return [file for name, files in found.items() for file in files if file == root / name]


def open_objects(
    there: ObjectPlace, options: ReadOptions, opener_of: Callable[[str], Opener]
) -> tuple[Reader, ...]:
    """Open an object, a folder or a glob as `deblur.io.open_source` does with files.

    `opener_of`: who reads a file of this name. Zarr stores are read in place; of anything else a few objects at a time
    are copied to a private temporary folder. Raises ReadError as for files, StoreError for faults of the store.
    """
    single = look(there)
    if single is not None:
        return _opened_copy(single, options, opener_of)
    found = below(there)
    if any(file.parent == there and file.name in zarr_store.MARKS for file in found):
        from deblur.io.zarr_objects import seen_store

        return zarr_store.open_store(seen_store(there, found), str(there), options, origin=found)
    shelf, files, root = shelved(there, found)
    with shelf.opening():
        readers = images.open_files(
            str(there), files, name=root.name, root=root, options=options, ready=shelf.fetch
        )
        return tuple(Copied(reader, shelf) for reader in readers)


def shelved(there: ObjectPlace, found: Sequence[Seen]) -> tuple[Shelf, list[Path], Path]:
    """The pictures of a folder, of which `found` lie below it, or else of a glob, not copied yet.

    Returns their shelf, the files that they will be, in natural order, and the folder that frames' names start from.
    Raises ReadError where there are none.
    """
    shelf = Shelf([file for file in found if file.parent == there] if found else _globbed(there))
    with shelf.opening():
        files = images.pictures_of(shelf.paths())
        if not files and found:
            raise ReadError(f"{there} {images.NONE_THERE}")
        if not files and not glob.has_magic(there.key):
            raise ReadError(f"{there} does not exist: check the address")
        if not files:
            raise ReadError(f"{there} matches no PNG, JPEG or TIFF picture: check the pattern")
    shelf.read_in(files)
    return shelf, files, files[0].parent if found else images.common_root(files)


def _opened_copy(file: Seen, options: ReadOptions, opener_of: Callable[[str], Opener]) -> tuple[Reader, ...]:
    if not file.seen.st_size:
        raise ReadError(f"{file} is empty (0 bytes): copy it again or leave it out")
    shelf = Shelf([file])
    with shelf.opening():
        (path,) = shelf.paths()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # who reads it is known by its name: what nobody reads is not fetched
        opener = opener_of(str(path))
        shelf.fetch(path)
        return tuple(Copied(reader, shelf, whole=[file]) for reader in opener.open(str(path), options))


class Shelf:
    """Copies of a few objects of one bucket, in a private temporary folder, under the names that they have there.

    Of objects that are asked for in order the next AHEAD are copied meanwhile. A copy goes when there would be more than
    KEPT, and the last of them with the shelf.
    """

    def __init__(self, files: Sequence[Seen]) -> None:
        self._files = {file.key: file for file in files}
        self._root = files[0].root if files else ""
        _sweep()
        self._folder = Path(mkdtemp(prefix=f"{_prefix()}{os.getpid()}-"))
        self._mirror = self._folder / PurePosixPath(self._root).name
        self._pool = ThreadPoolExecutor(AHEAD + 1)  # it has no thread before there is work
        self._copies: dict[Path, Future[str]] = {}
        self._digests: dict[Path, str] = {}
        self._order: list[Path] = []
        self._places: dict[Path, int] = {}
        self._last = len(files)  # the place that was asked for last: none yet
        self.users = 0

    def paths(self) -> list[Path]:
        """Where the copies of the objects lie, when they are there."""
        return [self._mirror / key for key in self._files]

    def original(self, path: Path) -> Seen:
        return self._files[path.relative_to(self._mirror).as_posix()]

    def read_in(self, order: Sequence[Path]) -> None:
        """Say in which order copies will be asked for, most likely."""
        self._order, self._places = list(order), {path: place for place, path in enumerate(order)}

    def fetch(self, path: Path) -> None:
        """Have the copy at `path` there."""
        place = self._places.get(path, 0)
        ahead = self._order[place + 1 : place + 1 + AHEAD] if place == self._last + 1 else []
        self._last = place
        for each in (path, *ahead):
            if each not in self._copies:
                self._make_room((path, *ahead))
                self._copies[each] = self._pool.submit(self._copy, each)
        try:
            self._digests[path] = self._copies[path].result()
        except Exception:
            del self._copies[path]
            raise

    def _make_room(self, wanted: Sequence[Path]) -> None:
        while len(self._copies) >= KEPT:
            oldest = next(path for path in self._copies if path not in wanted)
            copy = self._copies.pop(oldest)
            if not copy.cancel():
                copy.exception()  # waits
            oldest.unlink(missing_ok=True)

    def _copy(self, path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self.original(path).copy_to(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def digest(self, path: Path) -> str:
        """The sha256 of the bytes that were fetched."""
        if path not in self._digests:
            self.fetch(path)
        return self._digests[path]

    @contextmanager
    def naming(self) -> Iterator[None]:
        """ReadErrors of the block name objects instead of their copies."""
        try:
            yield
        except ReadError as error:
            raise type(error)(str(error).replace(str(self._mirror), self._root)) from error

    @contextmanager
    def opening(self) -> Iterator[None]:
        """The same; after any failure nothing is left."""
        try:
            with self.naming():
                yield
        except BaseException:
            self.remove()
            raise

    def release(self) -> None:
        self.users -= 1
        if self.users <= 0:
            self.remove()

    def remove(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _prefix() -> str:
    return f"deblur-source-{gethostname()}-"


def _sweep() -> None:
    """Remove what processes of this host left when they were killed."""
    if os.name == "nt":
        return  # there signal 0 is no question
    for folder in Path(gettempdir()).glob(f"{_prefix()}*-*"):
        try:
            os.kill(int(folder.name.removeprefix(_prefix()).split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, OverflowError, PermissionError):
            continue  # not ours


class Copied(Reader):
    """A reader of copies, which speaks of the objects."""

    def __init__(self, reader: Reader, shelf: Shelf, *, whole: Sequence[Seen] = ()) -> None:
        self.header, self.frames = reader.header, reader.frames
        self._reader: Reader = reader
        self._shelf: Shelf | None = shelf
        self._whole = whole
        shelf.users += 1

    def read(self, index: int) -> NDArray[Any]:
        if self._shelf is None:
            raise ReadError(f"{self.header.name} was asked for after its reader was closed: open it again")
        with self._shelf.naming():
            return self._reader.read(index)

    def file(self, index: int) -> Place | None:
        path = self._reader.file(index)
        return self._shelf.original(path) if isinstance(path, Path) and self._shelf else path

    def digest(self, index: int) -> str | None:
        path = self._reader.file(index)
        return self._shelf.digest(path) if isinstance(path, Path) and self._shelf else None

    def source_files(self) -> Sequence[Place]:
        return super().source_files() or self._whole

    def close(self) -> None:
        self._reader.close()
        if self._shelf is not None:
            self._shelf.release()
        self._shelf = None
