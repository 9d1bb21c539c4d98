"""Zarr: formats 2 and 3, OME metadata, axes, blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from deblur.errors import ReadError
from deblur.io import open_source

CODES = np.arange(6 * 2 * 8 * 10, dtype=np.uint16).reshape(6, 2, 8, 10)
AXES = [
    {"name": "t", "type": "time", "unit": "millisecond"},
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def image_notes(axes: list[dict[str, str]], scale: list[float]) -> dict[str, Any]:
    transformations = [{"type": "scale", "scale": scale}]
    return {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transformations}]}


def write_image(group: Any, data: np.ndarray, notes: dict[str, Any]) -> None:
    group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=(2, *data.shape[1:]))[:] = data
    group.create_array("1", shape=(1, 1), dtype=data.dtype)
    if group.metadata.zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [notes]}
    else:
        group.attrs["multiscales"] = [notes]


def stack_of(reader: Any) -> np.ndarray:
    return np.stack([reader.read(index) for index in range(len(reader.frames))])


@pytest.mark.parametrize("version", [2, 3])
def test_finest_level_and_its_scales(tmp_path: Path, version: int) -> None:
    group = zarr.open_group(tmp_path / "run.ome.zarr", mode="w", zarr_format=version)  # type: ignore[arg-type]
    write_image(group, CODES, image_notes(AXES, [40.0, 1.0, 0.5, 0.25]))
    (reader,) = open_source(str(tmp_path / "run.ome.zarr"))
    assert reader.header.name == "run"
    assert reader.header.frame_rate == pytest.approx(25)
    assert reader.header.pixel_size == (0.5, 0.25, "µm")
    assert reader.frames[5].time == pytest.approx(0.2)
    assert np.array_equal(stack_of(reader), CODES)


def test_z_becomes_sequences_and_order_of_axes_is_honoured(tmp_path: Path) -> None:
    data = np.arange(3 * 4 * 8 * 10, dtype=np.uint16).reshape(3, 4, 8, 10)
    axes = [{"name": name} for name in ("z", "t", "x", "y")]
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    write_image(group, data, image_notes(axes, [1.0] * 4))
    readers = open_source(str(tmp_path / "run.zarr"))
    assert [reader.header.name for reader in readers] == ["run/z000", "run/z001", "run/z002"]
    assert np.array_equal(stack_of(readers[1])[:, 0], data[1].transpose(0, 2, 1))


def test_positions_and_plates(tmp_path: Path) -> None:
    notes = image_notes(AXES, [1.0] * 4)
    series = zarr.open_group(tmp_path / "series.zarr", mode="w")
    series.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    well = plate.create_group("A/1")
    well.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
    for number in range(2):
        write_image(series.create_group(str(number)), CODES + number, notes)
        write_image(well.create_group(str(number)), CODES + number, notes)
    for path, names in (
        ("series", ["series/p000", "series/p001"]),
        ("plate", ["plate/A-1/f0", "plate/A-1/f1"]),
    ):
        readers = open_source(str(tmp_path / f"{path}.zarr"))
        assert [reader.header.name for reader in readers] == names
        assert np.array_equal(stack_of(readers[1]), CODES + 1)


def test_dimension_names_and_a_lone_array_in_a_group(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = group.create_array(
        "data", shape=(8, 10, 6), dtype="uint16", dimension_names=("row", "column", "time")
    )
    array[:] = CODES[:, 0].transpose(1, 2, 0)
    (reader,) = open_source(str(tmp_path / "a.zarr"))
    assert np.array_equal(stack_of(reader)[:, 0], CODES[:, 0])


def test_sharded_and_big_endian(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=CODES.shape, dtype=CODES.dtype, chunks=(1, 1, 4, 5), shards=(2, 2, 8, 10)
    )
    array[:] = CODES
    assert np.array_equal(stack_of(open_source(str(tmp_path / "a.zarr"))[0]), CODES)
    old = zarr.create_array(
        tmp_path / "b.zarr", shape=CODES.shape, dtype=">u2", zarr_format=2, chunks=(4, 2, 8, 10)
    )
    old[:] = CODES
    frames = stack_of(open_source(str(tmp_path / "b.zarr"))[0])
    assert np.array_equal(frames, CODES)
    assert frames.dtype.isnative


def test_a_chunk_is_decoded_once_for_frames_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=CODES.shape, dtype=CODES.dtype, chunks=(4, 2, 8, 10))
    array[:] = CODES
    (reader,) = open_source(str(tmp_path / "a.zarr"))
    asked = []
    load = type(reader)._load  # type: ignore[attr-defined]

    def counting(self: Any, image: Any, start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return load(self, image, start, stop)  # type: ignore[no-any-return]

    monkeypatch.setattr(type(reader), "_load", counting)
    assert np.array_equal(stack_of(reader), CODES)
    assert asked == [(0, 4), (4, 6)]


def test_refused_by_name(tmp_path: Path) -> None:
    def refused(name: str, match: str) -> None:
        with pytest.raises(ReadError, match=match) as caught:
            open_source(str(tmp_path / name))
        assert "\n" not in str(caught.value)

    group = zarr.open_group(tmp_path / "many.zarr", mode="w")
    group.create_array("a", shape=(1, 2, 2), dtype="u1")
    group.create_array("b", shape=(1, 2, 2), dtype="u1")
    refused("many.zarr", r"2 arrays \(a, b\)")
    zarr.open_group(tmp_path / "none.zarr", mode="w")
    refused("none.zarr", "0 arrays")
    zarr.create_array(tmp_path / "flat.zarr", shape=(4, 4), dtype="u1")
    refused("flat.zarr", "2 axes without names")
    zarr.create_array(tmp_path / "int.zarr", shape=(4, 4, 4), dtype="i8")
    refused("int.zarr", "int64")
    odd = zarr.open_group(tmp_path / "odd.zarr", mode="w")
    odd.attrs["ome"] = {"multiscales": [{"axes": AXES, "datasets": []}]}
    refused("odd.zarr", "hold together")
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node')
    refused("torn.zarr", "broken")
