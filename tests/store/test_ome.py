"""OME-Zarr 0.5 metadata, as other people's readers expect it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from deblur.store import RunStore, ome

from .stores import SPEC, fill, pixels, sequence_at


@pytest.mark.parametrize("kind", ["source", "run"])
def test_a_plain_reader_finds_every_level(tmp_path: Path, kind: str) -> None:
    sequence = sequence_at(tmp_path)
    if kind == "run":
        run = sequence.create_run("r", SPEC)
        fill(run, pixels())
    group = zarr.open_group(sequence.source.path if kind == "source" else sequence.run("r").path, mode="r")
    image = group.attrs["ome"]
    assert image["version"] == "0.5"
    (multiscale,) = image["multiscales"]
    assert [(axis["name"], axis["type"]) for axis in multiscale["axes"]] == [
        ("t", "time"), ("c", "channel"), ("y", "space"), ("x", "space")
    ]  # fmt: skip
    for level, dataset in enumerate(multiscale["datasets"]):
        array = group[dataset["path"]]
        scale, translation = dataset["coordinateTransformations"]
        assert (scale["type"], translation["type"]) == ("scale", "translation")
        assert len(scale["scale"]) == len(translation["translation"]) == array.ndim
        assert array.metadata.dimension_names == ("t", "c", "y", "x")
        assert (
            scale["scale"][2] / multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][2]
            == 2**level
        )
    assert [channel["label"] for channel in image["omero"]["channels"]] == ["red", "green"]
    np.testing.assert_array_equal(group["0"][:], pixels())


def test_units_and_channels() -> None:
    found = ome.multiscale(
        name="n",
        paths=["0", "1"],
        channels=["red", "blue"],
        dtype="uint16",
        largest=4095,
        frame_rate=25,
        pixel_size=(2, 3, "µm"),
    )
    (multiscale,) = found["multiscales"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == ["second", None, "micrometer", "micrometer"]
    assert multiscale["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [0.04, 1.0, 4, 6]},
        {
            "type": "translation",
            "translation": [0.0, 0.0, 1.0, 1.5],
        },  # half a full pixel, as halving moves centres
    ]
    windows = [channel["window"] for channel in found["omero"]["channels"]]
    assert windows == [{"min": 0.0, "max": 65535.0, "start": 0.0, "end": 4095.0}] * 2
    assert [channel["color"] for channel in found["omero"]["channels"]] == ["FF0000", "0000FF"]
    json.dumps(found, allow_nan=False)


def test_nothing_is_claimed_that_is_not_known() -> None:
    found = ome.multiscale(name="n", paths=["0"], channels=["grey"], dtype="float32")
    assert all("unit" not in axis for axis in found["multiscales"][0]["axes"])
    (channel,) = found["omero"]["channels"]
    assert (channel["color"], channel["window"]["end"]) == ("FFFFFF", 1.0)


def test_channels_can_be_told_apart_and_units_are_the_formats_own() -> None:
    found = ome.multiscale(
        name="n", paths=["0"], channels=["DAPI", "GFP"], dtype="uint8", pixel_size=(1, 1, "arcsec")
    )
    assert len({channel["color"] for channel in found["omero"]["channels"]}) == 2
    assert "unit" not in found["multiscales"][0]["axes"][3]  # neuroglancer refuses what OME-Zarr doesn't list
    given = ome.multiscale(
        name="n", paths=["0"], channels=["DAPI", "GFP"], dtype="uint8", colours=["112233", "445566"]
    )
    assert [channel["color"] for channel in given["omero"]["channels"]] == ["112233", "445566"]


def test_the_other_arrays_explain_themselves(tmp_path: Path) -> None:
    run = RunStore.create(tmp_path / "r.ome.zarr", SPEC)
    group = zarr.open_group(run.path, mode="r")
    assert group["motion/forward"].attrs["quantum"] == 1 / 64
    assert group["motion/forward"].attrs["components"] == ["dy", "dx"]
    assert [codec.to_dict()["name"] for codec in group["0"].metadata.codecs[0].codecs] == [
        "bytes",
        "blosc",
        "crc32c",
    ]
    assert group["quality/reason"].dtype == np.uint8
