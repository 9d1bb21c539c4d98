"""What is left open is chosen so that little is read and computed twice, within the memory there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.config import Tiling
from deblur.layout import LOOK_PLANES, STEP, Facts, Stage, choose, project
from deblur.tiling import Layout, boxes, windows

GIB = 2**30
OLD = Layout(1024, 256, 1024, 2048, 4)  # what every sequence got before layouts were chosen


def facts(
    height: int, width: int, *, count: int = 64, channels: int = 1, halo: int = 144, looks: int = 1
) -> Facts:
    halos: dict[Stage, int] = {"motion": halo, "restore": min(halo, 208)}
    return Facts((count, channels, height, width), "uint16", halos, looks)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (720, 1280), (1080, 1920), (2048, 2048)])
def test_a_frame_that_fits_is_one_window(height: int, width: int) -> None:
    found = choose(Tiling(), facts(height, width), memory=4 * GIB)
    assert found.window == found.unit == -(-max(height, width) // 64) * 64
    assert project(facts(height, width), found).compute_amplification == 1


@pytest.mark.parametrize("halo", [144, 208, 336])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(2160, 3840), (4096, 4096), (16384, 16384)])
def test_less_is_computed_than_with_one_layout_for_all(
    height: int, width: int, channels: int, halo: int
) -> None:
    about = facts(height, width, channels=channels, halo=halo, looks=3)
    found, before = project(about, choose(Tiling(), about, memory=4 * GIB)), project(about, OLD)
    assert found.compute_amplification < before.compute_amplification
    product = found.compute_amplification * found.read_amplification
    assert product <= before.compute_amplification * before.read_amplification
    assert found.memory <= 4 * GIB


def test_a_16k_frame_fits_a_worker_of_2_gib() -> None:
    about = facts(16384, 16384, count=2, halo=336)
    assert project(about, choose(Tiling(), about, memory=2 * GIB)).memory <= 2 * GIB


sizes = st.integers(40, 9000)


@given(
    sizes, sizes, st.integers(2, 3000), st.sampled_from((1, 3)), st.integers(0, 20), st.sampled_from((1, 3))
)
def test_every_choice_is_a_layout_that_can_be_computed(
    height: int, width: int, count: int, channels: int, halo: int, looks: int
) -> None:
    about = facts(height, width, count=count, channels=channels, halo=16 * halo, looks=looks)
    found = choose(Tiling(), about, memory=4 * GIB)
    assert found == choose(Tiling(), about, memory=4 * GIB)
    for box in list(boxes(height, width, found.unit))[-2:]:
        cores = [w.core for w in windows(box, height, width, size=found.window, halo=16 * halo)]
        assert sum(core.size for core in cores) == box.size
        for edge, extent in ((box.y1, height), (box.x1, width)):
            assert edge == extent or edge % found.shard == 0
    assert found.window % 64 == 0
    assert project(about, found).memory <= 4 * GIB


@given(
    st.sampled_from((None, 256, 512, 1024)), st.sampled_from((None, 2048, 4096)), st.sampled_from((None, 3))
)
def test_a_given_key_stays_as_given(window: int | None, unit: int | None, frames: int | None) -> None:
    given_ = Tiling(window=window, unit=unit, frames=frames)
    found = choose(given_, facts(4096, 4096), memory=4 * GIB)
    assert [window, unit, frames] == [
        value and getattr(found, name)
        for name, value in (("window", window), ("unit", unit), ("frames", frames))
    ]
    assert found.unit % found.window == 0


def test_the_window_follows_from_the_frame_not_from_units_shards_or_their_number() -> None:
    about = facts(4096, 4096)
    windows_ = {
        choose(tiling, replace(about, shape=(count, 1, 4096, 4096)), memory=memory).window
        for tiling in (Tiling(), Tiling(shard=512, chunk=128), Tiling(frames=1))
        for count in (2, 64, 5000)
        for memory in (2 * GIB, 64 * GIB)
    }
    assert len(windows_) == 1


def test_little_memory_means_smaller_windows_before_a_refusal() -> None:
    about = facts(4096, 4096)
    small = choose(Tiling(), about, memory=GIB)
    assert STEP <= small.window < choose(Tiling(), about, memory=4 * GIB).window
    assert project(about, small).memory <= GIB
    assert project(about, choose(Tiling(), about, memory=1)).memory > 1  # the plan refuses it by name


def test_an_earlier_layout_is_kept_where_it_agrees_and_fits() -> None:
    about = facts(4096, 4096)
    assert choose(Tiling(), about, memory=4 * GIB, kept=OLD) == OLD
    assert choose(Tiling(frames=2), about, memory=4 * GIB, kept=OLD) != OLD
    assert choose(Tiling(shard=512), about, memory=4 * GIB, kept=OLD) != OLD
    assert choose(Tiling(), about, memory=GIB // 2, kept=OLD) != OLD


def test_short_sequences_are_cut_so_that_workers_have_their_share() -> None:
    short, long = (choose(Tiling(), facts(720, 1280, count=n), memory=4 * GIB) for n in (64, 6400))
    assert short.frames == 4
    assert long.frames == 16


def test_a_smaller_window_computes_more_and_takes_less() -> None:
    about = facts(4096, 4096)
    coarse, fine = (project(about, replace(OLD, window=side)) for side in (1024, 256))
    assert fine.compute_amplification > coarse.compute_amplification > 1
    assert coarse.memory > fine.memory
    assert coarse.read_amplification == fine.read_amplification


def test_longer_blocks_read_fewer_frames_twice() -> None:
    about = facts(2048, 2048, count=64, halo=0)
    assert [project(about, replace(OLD, frames=n)).read_amplification for n in (1, 4, 64)] == [
        (64 + 2 * 63) / 64,
        (64 + 2 * 15) / 64,
        1,
    ]


def test_restoring_from_neighbours_too_takes_more_memory() -> None:
    quiet, noisy = (project(facts(2048, 2048, looks=k, channels=3, halo=400), OLD).memory for k in (1, 3))
    assert noisy - quiet >= 2 * LOOK_PLANES * 4 * 1024**2
