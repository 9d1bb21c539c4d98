"""From a run in the archive to the page that shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ConfigError
from deblur.gradients import sobel
from deblur.judge import frame_records
from deblur.light import luma
from deblur.plan import Exposure, Parameters, frame_infos
from deblur.provenance import environment, environment_of
from deblur.report.frames import FrameRow
from deblur.report.html import Pair, Report, render_report
from deblur.store import RunStore, SequenceStore
from deblur.store.run import LEARNED_STEPS
from deblur.survey import dequantise
from deblur.turn import orientation_of

STRIP, SMALL = 6, 480  # frames of a whole run that are shown small; pixels of their longer side
UNTOLD = (True, True)  # by records of earlier versions
CUT = 16  # pixels of border left out of PSNR: what lies beyond the frame can't be known there


def psnr(image: NDArray[Any], truth: NDArray[Any], white: float) -> float:
    """Peak signal-to-noise ratio in dB of codes (c, y, x) up to `white`, `CUT` pixels of border left out."""
    inner = (..., slice(CUT, -CUT), slice(CUT, -CUT))
    error = np.mean((image[inner].astype(np.float64) - truth[inner]) ** 2) / white**2
    return float(-10 * np.log10(max(error, 1e-12)))


def compose_report(
    store: SequenceStore,
    run_id: str,
    *,
    truth: Sequence[NDArray[Any]] | None = None,
    frames: Sequence[int] | None = None,
) -> Report:
    """The report of one run. `truth`: the sharp frames (c, y, x), where they are known; `frames`: only these."""
    run, source = store.run(run_id), store.source
    p, infos = Parameters.load(run.parameters), frame_infos(source)
    chosen, records = range(len(infos)) if frames is None else frames, frame_records(run)
    t = _shown(records, chosen)
    other = min(t + 1, len(infos) - 1)
    pair = [source.read(k, k + 1)[0] for k in (t, other)]
    lumas = [luma(frame, p.light) for frame in pair]
    motion = dequantise(run.read("motion/forward", t, t + 1)[0])
    rows = tuple(
        _row(
            store,
            run_id,
            FrameRow(infos[k].name, records[k]["weight"], records[k].get("noise", math.nan)),
            k,
            p.light.white,
            truth,
        )
        for k in chosen
    )
    few = "" if frames is None else f"a sample of {len(chosen)} of "
    return Report(
        title=f"{source.header.name}, deblurred",
        summary=f"{few}{len(infos)} frames of {source.header.shape[2]} × {source.header.shape[1]} pixels, {run_id}",
        light=p.light,
        names=(infos[t].name, infos[other].name),
        originals=(pair[0], pair[1]),
        restored=run.read("0", t, t + 1)[0],
        gradient=sobel(lumas[0]),
        difference=lumas[1] - lumas[0],
        motion=motion,
        path=motion * np.float32(p.exposure.scale(infos[t], infos[other])),
        exposure_fraction=p.exposure.fraction,
        weight=run.read("quality/weight", t, t + 1)[0].astype(np.float32) / 255,
        reason=run.read("quality/reason", t, t + 1)[0],
        learned=run.read("quality/learned", t, t + 1)[0].astype(np.float32) / LEARNED_STEPS
        if run.spec.learned
        else None,
        frames=rows,
        provenance=_provenance(store, run, p),
        truth=truth[t] if truth is not None else None,
        orientation=orientation_of(source.header),
        strip=tuple(
            Pair(infos[k].name, _small(source.read(k, k + 1)[0]), _small(run.read("0", k, k + 1)[0]))
            for k in _spread(chosen, len(chosen) if frames is not None else STRIP)
        ),
    )


def write_report(
    path: Path, store: SequenceStore, run_id: str, *, frames: Sequence[int] | None = None
) -> None:
    """The report as one HTML file. `frames`: of these only. Raises ConfigError where it can't be written."""
    page = render_report(compose_report(store, run_id, frames=frames))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}): give another place") from None


def _shown(records: Mapping[int, Mapping[str, Any]], chosen: Sequence[int]) -> int:
    """The frame to show: the chosen one nearest their middle that has a next one, as the run's own survey said."""
    places = [t for t in chosen if records[t].get("linked", UNTOLD)[1]]
    middle = chosen[len(chosen) // 2]
    return min(places, key=lambda t: abs(t - middle)) if places else chosen[0]


def _small(codes: NDArray[Any]) -> NDArray[Any]:
    """Codes (c, y, x) averaged over blocks: a report of many large frames must not hold them all."""
    step = -(-max(codes.shape[1:]) // SMALL)
    rows, columns = (max(1, extent // step) for extent in codes.shape[1:])
    if step == 1 or min(codes.shape[1:]) < step:
        return codes
    blocks = codes[:, : rows * step, : columns * step].reshape(len(codes), rows, step, columns, step)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32).astype(codes.dtype))


def _spread(chosen: Sequence[int], count: int) -> list[int]:
    return sorted({chosen[(2 * k + 1) * len(chosen) // (2 * count)] for k in range(count)})


def _row(
    store: SequenceStore,
    run_id: str,
    row: FrameRow,
    t: int,
    white: float,
    truth: Sequence[NDArray[Any]] | None,
) -> FrameRow:
    """A line of the table, with what it gained where the truth is known."""
    if truth is None:
        return row
    before, after = store.source.read(t, t + 1)[0], store.run(run_id).read("0", t, t + 1)[0]
    return replace(row, psnr_before=psnr(before, truth[t], white), psnr_after=psnr(after, truth[t], white))


def _exposure(exposure: Exposure) -> str:
    doubt = "" if exposure.uncertainty is None else f" ± {exposure.uncertainty:.2g}"
    return f"{exposure.fraction:.4g}{doubt} ({exposure.origin})"


def _provenance(store: SequenceStore, run: RunStore, p: Parameters) -> dict[str, dict[str, object]]:
    seconds, largest, units = {"motion": 0.0, "restore": 0.0}, 0, 0
    for record in run.ledger().latest():
        if record.get("stage") in seconds:
            seconds[record["stage"]] += record.get("cpu_seconds", 0.0)
        largest, units = max(largest, record.get("peak_bytes", 0)), units + 1
    megapixels = store.source.shape[0] * store.source.shape[2] * store.source.shape[3] / 1e6
    here = environment_of(run) or environment()  # of a sample there is no record yet
    return {
        "Run": {"run": run.id, "sequence": store.id, "source digest": store.source.digest},
        "Parameters": {
            "exposure fraction": _exposure(p.exposure),
            "transfer": p.light.transfer,
            "motion": f"{p.motion_method}, halo {p.motion_halo} px",
            "restoration": f"{p.restore.method}, halo {p.restore_halo} px",
            **({"network": p.restore.network} if p.restore.network else {}),
            "window": f"{p.window} px",
        },
        "Versions": {
            "deblur": here["deblur"],
            "commit": here["commit"],
            "Python": here["python"],
            **here["packages"],
        },
        "Cost": {
            **{
                f"{stage}, CPU s per megapixel": f"{value / megapixels:.2f}"
                for stage, value in seconds.items()
            },
            "largest process": f"{largest / 2**20:.0f} MiB",
            "units": units,
        },
    }
