"""A run as programs see it that we did not write: napari's reader, zarrita.js, which vizarr and others read by, and
neuroglancer, which draws it in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from deblur import job as work
from deblur.config import load_job
from deblur.store import Archive, RunStore
from tests.browser import BROWSER, NONE, QUIET, served
from tests.conftest import pan
from tests.small import write_job

pytestmark = pytest.mark.slow
SIZE, INTERVAL = 0.5, 0.1
GREEN, MAGENTA = 0x00FF00FF, 0xFF00FFFF - (1 << 32)  # OME's signed RGBA
SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-port=0")
SHADER = """
#uicontrol invlerp normalized(range=[0, 255])
void main() { emitGrayscale(normalized()); }
"""
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


@pytest.mark.skipif(BROWSER is None, reason=NONE)
def test_neuroglancer_draws_the_codes(run: RunStore, tmp_path: Path) -> None:
    """A frame's channel, a pixel of the screen for each of its own, black to white over the codes' range."""
    neuroglancer = pytest.importorskip(
        "neuroglancer", reason="neuroglancer is not here: pip install neuroglancer"
    )
    neuroglancer.set_server_bind_address("127.0.0.1")
    viewer, seen, drawn = neuroglancer.Viewer(), list[np.ndarray](), threading.Event()
    time, channel, height, width = 1, 1, *run.spec.shape[2:]
    with viewer.config_state.txn() as page:
        page.show_ui_controls = page.show_panel_borders = False
        page.viewer_size = [width, height]

    def keep(answer: Any) -> None:
        seen.append(answer.screenshot.image_pixels)
        drawn.set()

    with served(Path(str(run.path))) as address:
        with viewer.txn() as state:
            state.layers["run"] = neuroglancer.ImageLayer(
                source=f"{address}/|zarr3:", shader=SHADER, opacity=1, local_position=[channel]
            )
            state.dimensions = neuroglancer.CoordinateSpace(
                names=["x", "y", "t"], units=["um", "um", "s"], scales=[SIZE, SIZE, INTERVAL]
            )
            state.position = [(width - 1) / 2, (height - 1) / 2, time]  # whole numbers are middles of pixels
            state.layout, state.cross_section_scale = "xy", 1
            state.show_axis_lines = state.show_scale_bar = state.show_default_annotations = False
        browser = subprocess.Popen(
            [str(BROWSER), *QUIET, *SOFTWARE, f"--user-data-dir={tmp_path}", viewer.get_viewer_url()],
            stderr=subprocess.DEVNULL,
        )
        try:
            viewer.async_screenshot(keep)
            assert drawn.wait(120)
        finally:
            browser.terminate()
            browser.wait()
    shown = run.read("0", time, time + 1)[0, channel].astype(int)
    assert seen[0].shape[:2] == shown.shape
    assert np.abs(seen[0][..., 0] - shown).max() <= 1


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
