"""A run as programs see it that we did not write: napari's reader, and zarrita.js, which vizarr and others read by."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from deblur import job as work
from deblur.config import load_job
from deblur.store import Archive, RunStore
from tests.conftest import pan
from tests.small import write_job

pytestmark = pytest.mark.slow
SIZE, INTERVAL = 0.5, 0.1
GREEN, MAGENTA = 0x00FF00FF, 0xFF00FFFF - (1 << 32)  # OME's signed RGBA
ZARRITA = """
import * as zarr from "zarrita";
import { FileSystemStore } from "@zarrita/storage";
const group = await zarr.open(new FileSystemStore(process.argv[1]), { kind: "group" });
const levels = [];
for (const { path } of group.attrs.ome.multiscales[0].datasets) {
  const array = await zarr.open(group.resolve(path), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  levels.push({ shape, names: array.dimensionNames, sum: data.reduce((sum, value) => sum + value, 0) });
}
console.log(JSON.stringify({ ome: group.attrs.ome, levels }));
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run over two fluorescence channels, of a source that tells scale, interval and colours."""
    folder = tmp_path_factory.mktemp("viewed")
    notes = {
        "axes": "TCYX",
        "PhysicalSizeX": SIZE,
        "PhysicalSizeY": SIZE,
        "TimeIncrement": INTERVAL,
        "Channel": {"Name": ["GFP", "Cy5"], "Color": [GREEN, MAGENTA]},
    }
    tifffile.imwrite(folder / "cells.ome.tif", pan(3, 64, 96, channels=2)[0], metadata=notes)
    (outcome,) = work.run(load_job(write_job(folder, path="cells.ome.tif")))
    store = Archive.open(folder / "archive").sequence(outcome.sequence.id)
    return store.run(str(store.current()))


def pixels(run: RunStore) -> np.ndarray:
    return run.read("0", 0, run.spec.shape[0])


def test_napari_shows_channels_colours_and_scale(run: RunStore) -> None:
    napari = pytest.importorskip(
        "napari_ome_zarr", reason="napari's reader is not here: pip install napari-ome-zarr"
    )
    ((levels, shown, kind),) = napari.napari_get_reader(str(run.path))(str(run.path))
    assert kind == "image"
    assert len(levels) == run.spec.levels
    assert np.array_equal(np.asarray(levels[0]), pixels(run))
    assert tuple(shown["axis_labels"]) == ("t", "y", "x")
    assert shown["channel_axis"] == 1
    assert [name.rpartition(" ")[2] for name in shown["name"]] == ["GFP", "Cy5"]
    tops = [tuple(colormap.colors[-1][:3]) for colormap in shown["colormap"]]
    assert tops == [(0, 1, 0), (1, 0, 1)]
    np.testing.assert_allclose(shown["scale"], (INTERVAL, SIZE, SIZE))


def test_zarrita_reads_every_level(run: RunStore) -> None:
    told = zarrita(run)
    axes = told["ome"]["multiscales"][0]["axes"]
    assert [axis.get("unit") for axis in axes] == ["second", None, "micrometer", "micrometer"]
    assert [channel["color"] for channel in told["ome"]["omero"]["channels"]] == ["00FF00", "FF00FF"]
    assert [level["names"] for level in told["levels"]] == [["t", "c", "y", "x"]] * run.spec.levels
    for number, level in enumerate(told["levels"]):
        frames = run.read(str(number), 0, run.spec.shape[0])
        assert (tuple(level["shape"]), level["sum"]) == (frames.shape, int(frames.sum(dtype=np.int64)))


def zarrita(run: RunStore) -> Any:
    """What zarrita.js finds in a run."""
    if shutil.which("npm") is None:
        pytest.skip("there is no Node.js with npm here")
    modules = Path(subprocess.check_output(["npm", "root", "-g"], text=True).strip())
    if not (modules / "@zarrita" / "storage").is_dir():
        pytest.skip("zarrita.js is not here: npm install -g zarrita @zarrita/storage")
    node = ["node", "--input-type=module", "--eval", ZARRITA, str(run.path)]
    done = subprocess.run(
        node, cwd=modules.parent, capture_output=True, text=True
    )  # imports are looked up from here
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
