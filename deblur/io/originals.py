"""The files that frames were read from, opened once more for what the archive doesn't hold: EXIF, audio, a patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deblur.errors import ReadError
from deblur.io import dicom, images, video
from deblur.io.objects import Shelf, below, look, shelved
from deblur.place import ObjectPlace, place

CLIPS = (*video.SUFFIXES, *dicom.SUFFIXES)  # of one file with many frames


@contextmanager
def original_of(address: str) -> Iterator[tuple[Path | None, Callable[[Path], None]]]:
    """The clip of a source, or the folder that its frames' names start from; None where neither is there.

    With it, what is to be told of each file before that is opened: of an object a copy is made then, and gone with the
    context. Raises ConfigError and StoreError where a store can't be asked; what it returns raises StoreError, too.
    """
    there = place(address)
    if not isinstance(there, ObjectPlace):
        yield _local(there), images.is_there
        return
    try:
        shelf, files, root = _remote(there)
    except ReadError:
        yield None, images.is_there
        return
    known = set(files)
    try:
        yield root, lambda path: shelf.fetch(path) if path in known else None
    finally:
        shelf.remove()


def _local(path: Path) -> Path | None:
    if path.is_file():
        return _start(path)
    try:
        return images.root_of(str(path)) if images.matches(str(path)) else None
    except ReadError:
        return None


def _start(file: Path) -> Path:
    return file if file.suffix.lower() in CLIPS else file.parent


def _remote(there: ObjectPlace) -> tuple[Shelf, list[Path], Path]:
    single = look(there)
    if single is None:
        return shelved(there, below(there))
    shelf = Shelf([single])
    (path,) = shelf.paths()
    return shelf, [path], _start(path)
