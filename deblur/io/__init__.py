"""Readers and exporters: files to frames and back. A format is one file, and one line in READERS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from deblur.errors import ReadError, near
from deblur.io import dicom, fits, hdf5, images, microscopes, npy, tiff, video, zarr_store
from deblur.io.isolation import apart
from deblur.io.objects import open_objects
from deblur.io.reader import Opener, Order, Reader, ReadOptions
from deblur.place import ObjectPlace, place
from deblur.types import Isolation, ReadLimits

__all__ = ["READERS", "Opener", "Order", "ReadLimits", "ReadOptions", "Reader", "open_source"]

# Asked in this order: a folder is a Zarr store before it is a folder of pictures. `apart`: decoded by native code, so in
# a process of its own where the options say so; pictures do it file by file.
READERS: Mapping[str, Opener] = {
    "zarr": Opener(zarr_store.matches, apart("zarr", zarr_store.open_zarr)),
    "tiff": Opener(tiff.matches, apart("tiff", tiff.open_tiff)),
    "video": Opener(video.matches, apart("video", video.open_video)),
    "npy": Opener(npy.matches, npy.open_npy),
    "fits": Opener(fits.matches, apart("fits", fits.open_fits)),
    "hdf5": Opener(hdf5.matches, apart("hdf5", hdf5.open_hdf5)),
    "dicom": Opener(dicom.matches, apart("dicom", dicom.open_dicom)),
    "microscopes": Opener(microscopes.matches, apart("microscopes", microscopes.open_microscope)),
    "images": Opener(images.matches, images.open_images),
}

REFUSED = {
    ".gif": "GIF has a palette",
    ".webp": "WebP is not read",
    ".bmp": "BMP is not read",
    ".heic": "HEIC is not read",
    ".avif": "AVIF is not read",
    ".exr": "OpenEXR is not read",
    ".npz": "an .npz holds many arrays",
}


def open_source(
    source: str,
    *,
    limits: ReadLimits | None = None,
    order: Order = "name",
    isolation: Isolation | None = None,
) -> tuple[Reader, ...]:
    """Open a folder, glob or file as one reader a sequence (stacks and positions give several); here, or at s3://, gs://,
    az://.

    `order`: of picture files, "name" (natural: f9 before f10) or "time" (EXIF). `isolation`: the process in which native
    decoders work; None, this one. Nothing is decoded beyond what the header needs. Close the readers, or use them in a
    `with`.

    Raises ReadError when nothing is there or its kind isn't read, ConfigError for an unknown order or an address that
    can't be right, StoreError where an object store fails or an object changes while it is read.

    >>> import numpy, tempfile
    >>> path = tempfile.mkdtemp() + "/ramp.npy"
    >>> numpy.save(path, numpy.zeros((4, 1, 8, 8), numpy.uint8))
    >>> (reader,) = open_source(path)
    >>> reader.header.shape, len(reader.frames), reader.read(2).dtype.name
    ((1, 8, 8), 4, 'uint8')
    """
    source = os.path.expanduser(os.fspath(source))
    options = ReadOptions(limits or ReadLimits(), order, isolation)
    if "://" in source:
        there = place(source)
        if isinstance(there, ObjectPlace):
            return open_objects(there, options, _opener)
        source = str(there)
    if not os.path.exists(source) and not images.is_glob(source):
        raise ReadError(f"{source} does not exist{near(Path(source))}: check the path")
    if os.path.exists(source) and not os.path.isfile(source) and not os.path.isdir(source):
        raise ReadError(f"{source} is a device, a pipe or a socket: name a file or a folder")
    if os.path.isfile(source) and os.path.getsize(source) == 0:
        raise ReadError(f"{source} is empty (0 bytes): copy it again or leave it out")
    return _opener(source).open(source, options)


def _opener(source: str) -> Opener:
    """Who reads a file of this name. Raises ReadError where nobody does."""
    for opener in READERS.values():
        if opener.matches(source):
            return opener
    suffix = Path(source).suffix.lower()
    reason = REFUSED.get(suffix, f"files named *{suffix} are not read" if suffix else "its kind is unknown")
    raise ReadError(f"{source} can't be read ({reason}): convert it to PNG, TIFF, a video, .npy or Zarr")
