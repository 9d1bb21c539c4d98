"""Frames to files: a folder of pictures, a TIFF, an .npy or a video. Streamed, and there only when whole."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError, ConfigError
from deblur.io.dicom import FORMAT as DICOM
from deblur.io.exif import exif_of, with_exif
from deblur.io.exportdicom import new_uid, write_dicom
from deblur.io.exporttiff import Layer, interleaved, write_ome, write_tiff
from deblur.io.exportvideo import write_video
from deblur.io.images import SUFFIXES, is_there
from deblur.io.reader import describe
from deblur.turn import orientation_of, upright
from deblur.types import SequenceHeader

Frames = Iterable[NDArray[Any]]
PNG_CHANNELS = (1, 3)


def export_frames(
    frames: Frames,
    destination: Path,
    *,
    header: SequenceHeader,
    names: Sequence[str],
    times: Sequence[float | None] | None = None,
    original: Path | None = None,
    ready: Callable[[Path], None] = is_there,
) -> Path:
    """Write (c, y, x) frames of the header's shape and dtype; the destination's suffix says how.

    No suffix: a folder with a PNG (8 and 16 bits) or TIFF (floats, other than 1 or 3 channels, geo-referenced) a
    frame, named after `names`; a DICOM file each where the originals are such. `.tif`, `.tiff`: one file, a page a
    frame; `.ome.tif` with OME's metadata. `.dcm`: a multi-frame DICOM file, for frames of one. `.npy`: (t, c, y, x).
    `.mp4`: H.264, or HEVC for 10-bit clips. `.mkv`: FFV1, lossless up to 16 bits. Video keeps the source's frame rate; where
    `header.metadata` says that it varies, and `times` (seconds, one a frame) are given, each frame keeps its
    time. `original`: the file or the folder that the frames came from: audio and notes, or the EXIF, the place on the
    Earth or the patient of each picture, are given on; `ready`: told of each such file before it is opened. `names`
    sets the number of frames. Pictures and video are turned upright (`deblur.turn`);
    .npy keeps rows and columns.

    Nothing stands at `destination` until all of it does. Returns it. Raises ConfigError when it exists or
    can't hold such frames without loss, ArrayError for a frame unlike the header or another number of frames.

    >>> import tempfile
    >>> header = SequenceHeader("demo", (1, 4, 6), "uint16", ("grey",))
    >>> frames = (np.full((1, 4, 6), value, np.uint16) for value in (1, 2))
    >>> path = export_frames(frames, Path(tempfile.mkdtemp()) / "out", header=header, names=["a", "b"])
    >>> sorted(file.name for file in path.iterdir())
    ['a.png', 'b.png']
    """
    destination = Path(destination)
    if os.path.lexists(destination):
        raise ConfigError(f"{destination} exists already: name another destination or remove it")
    suffix = destination.suffix.lower()
    write: Callable[..., None]
    if is_ome(destination):
        write = partial(_write_one_ome, times=times or [None] * len(names))
    elif suffix in (".tif", ".tiff"):
        single = original / names[0] if original is not None and len(names) == 1 else None
        write = partial(write_tiff, count=len(names), original=_at_hand(single, ready))
    elif suffix == ".dcm":
        write = partial(write_dicom, names=names, original=_at_hand(original, ready))
    elif suffix == ".npy":
        write = partial(_write_npy, count=len(names))
    elif suffix in (".mp4", ".mkv"):
        write = partial(write_video, times=times, original=_at_hand(original, ready))
    elif suffix == "" or re.fullmatch(r"\.[0-9]+", suffix):  # "run 2.5" is a folder's name
        write = partial(_write_folder, names=names, original=original, ready=ready)
    else:
        raise ConfigError(
            f"{destination} ends in {suffix}: use a folder, .tif, .ome.tif, .npy, .dcm, .mp4 or .mkv"
        )
    if times is not None and len(times) != len(names):
        raise ArrayError(f"{len(times)} times for {len(names)} frames: give one for each")
    turn = 1 if suffix == ".npy" else orientation_of(header)
    shown = (upright(frame, turn) if turn > 1 else frame for frame in _checked(frames, header, len(names)))
    with _staged(destination) as staged:
        write(shown, staged, header=_upright_header(header, turn))
    return destination


def export_stack(layers: Sequence[Layer], destination: Path) -> Path:
    """Put the planes of one file back together in one OME-TIFF. Nothing stands at `destination` until all of it does.

    Raises ConfigError when it exists, is named otherwise, or the planes of a position differ in shape or in number of
    frames, as they do where some could not be read.
    """
    if not is_ome(destination):
        raise ConfigError(f"{destination}: several planes go into a folder, a .zarr or an .ome.tif")
    if os.path.lexists(destination):
        raise ConfigError(f"{destination} exists already: name another destination or remove it")
    for position in {layer.position for layer in layers}:
        stack = [layer for layer in layers if layer.position == position]
        if len({(layer.header.shape, layer.header.dtype, len(layer.times)) for layer in stack}) > 1:
            raise ConfigError(
                f"{destination}: planes of {stack[0].header.name} differ: export them one by one"
            )
    with _staged(destination) as staged:
        write_ome(layers, staged)
    return destination


def layer_of(header: SequenceHeader, times: Sequence[float | None], frames: Frames) -> Layer:
    """A sequence as a layer of the file that it came from, by the position and z that its reader named it after.

    >>> header = SequenceHeader("cells/p001/z003", (1, 4, 6), "uint16", ("grey",))
    >>> layer_of(header, [], []).position, layer_of(header, [], []).z
    ('p001', 3)
    """
    plane = header.name.partition("/")[2]
    found = re.search(r"(?:^|[/-])z([0-9]+)$", plane)
    position, z = (plane[: found.start()], int(found[1])) if found else (plane, 0)
    return Layer(header, position, z, times, frames)


@contextlib.contextmanager
def _staged(destination: Path) -> Iterator[Path]:
    """A name beside the destination, which gets the destination's when the block ends well."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    staged = destination.with_name(f".{destination.stem}.{uuid.uuid4().hex[:8]}.partial{destination.suffix}")
    try:
        yield staged
        _sync(staged)
        os.rename(staged, destination)
    except BaseException:
        _discard(staged)
        raise


def _upright_header(header: SequenceHeader, orientation: int) -> SequenceHeader:
    count, height, width = header.shape
    return replace(header, shape=(count, width, height) if orientation > 4 else header.shape)


def _checked(frames: Frames, header: SequenceHeader, count: int) -> Iterator[NDArray[Any]]:
    """The frames, as long as they are what the header says and as many as there are names."""
    number = 0
    for frame in frames:
        if frame.shape != header.shape or frame.dtype.name != header.dtype:
            raise ArrayError(
                f"frame {number} is {describe(frame.shape, frame.dtype)}, the sequence is "
                f"{describe(header.shape, header.dtype)}: export sequences one by one"
            )
        if number == count:
            raise ArrayError(f"there are more frames than the {count} names: give a name for each")
        yield frame
        number += 1
    if number != count:
        raise ArrayError(f"{number} frames for {count} names: give a name for each")


def _write_folder(
    frames: Iterator[NDArray[Any]],
    folder: Path,
    *,
    header: SequenceHeader,
    names: Sequence[str],
    original: Path | None,
    ready: Callable[[Path], None],
) -> None:
    suffix = _picture_suffix(header, original)
    folder.mkdir()
    series = new_uid() if suffix == ".dcm" else ""
    for frame, name, target in zip(frames, names, _file_names(names, suffix), strict=False):
        within = original is not None and not Path(name).is_absolute() and ".." not in Path(name).parts
        path = folder / target
        picture = _at_hand(original / name if original is not None and within else None, ready)
        if suffix == ".dcm" and picture is not None:
            write_dicom([frame], path, header=header, names=[name], original=picture, series=series)
        elif suffix == ".png":
            _write_png(frame, path, picture)
        else:
            write_tiff([frame], path, header=header, count=1, original=picture)
        _sync(path)


def _at_hand(file: Path | None, ready: Callable[[Path], None]) -> Path | None:
    if file is not None:
        ready(file)
    return file


def _picture_suffix(header: SequenceHeader, original: Path | None) -> str:
    """DICOM files stay DICOM where they are still there, whose notes they need; GeoTIFF and what no PNG holds is TIFF."""
    if header.metadata.get("format") == DICOM and original is not None and original.is_dir():
        return ".dcm"
    plain = header.dtype in ("uint8", "uint16") and header.shape[0] in PNG_CHANNELS
    return ".png" if plain and not header.metadata.keys() & {"crs", "geotiff"} else ".tif"


def _write_png(frame: NDArray[Any], path: Path, original: Path | None) -> None:
    import imagecodecs

    notes = None if original is None else exif_of(original)
    path.write_bytes(with_exif(bytes(imagecodecs.png_encode(interleaved(frame), level=4)), notes))


def _write_one_ome(
    frames: Iterator[NDArray[Any]], path: Path, *, header: SequenceHeader, times: Sequence[float | None]
) -> None:
    write_ome([Layer(header, "", 0, times, frames)], path)


def is_ome(path: Path) -> bool:
    """Named as an OME-TIFF."""
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))


def _file_names(names: Sequence[str], suffix: str) -> list[str]:
    """File names after the originals': no folders, characters that any file system takes, no doubles."""
    bases = [re.sub(r"[^\w.+=@~ -]", "_", name) for name in names]
    stems = [
        base[: -len(Path(base).suffix)] if Path(base).suffix.lower() in SUFFIXES else base for base in bases
    ]
    digits = len(str(max(len(names) - 1, 0)))
    counted = len({stem.casefold() for stem in stems}) < len(stems)
    return [
        f"{stem}-{place:0{digits}d}{suffix}" if counted else stem + suffix for place, stem in enumerate(stems)
    ]


def _write_npy(frames: Iterator[NDArray[Any]], path: Path, *, header: SequenceHeader, count: int) -> None:
    shape = (count, *header.shape)
    kind = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(header.dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, kind)
        for frame in frames:
            stream.write(np.ascontiguousarray(frame).data)


def _sync(path: Path) -> None:
    """Make a file, or a folder's list of files, durable before it gets its name."""
    with contextlib.ExitStack() as stack:
        handle = os.open(path, os.O_RDONLY)
        stack.callback(os.close, handle)
        os.fsync(handle)


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
