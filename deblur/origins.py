"""Which of a run's parameters somebody gave, which came with the frames, and which were estimated."""

from __future__ import annotations

import numpy as np

from deblur.config import JobConfig, Source
from deblur.plan import Parameters
from deblur.provenance import flattened
from deblur.store import SourceStore

CODE = ("motion_version", "restore_version")
SURVEYED = ("reduction", "motion_halo", "restore_halo")


def origins(job: JobConfig, source: Source, store: SourceStore, parameters: Parameters) -> dict[str, str]:
    """{dotted key of a resolved parameter: "given", "metadata", "estimated", "assumed", "default" or "code"}.

    "given": the job file says otherwise than the default; "metadata": the files tell; "estimated": from the pixels;
    "assumed": none of these told it.
    """
    plain = JobConfig(archive=job.archive, sources=(source,))
    given = {
        "window": job.tiling.window is not None,
        "motion_method": job.motion != plain.motion,
        "outputs": job.outputs != plain.outputs,
        "readout": source.readout != Source(path=source.path).readout,
        **{f"restore.{key}": value is not None for key, value in job.restore},
    }
    found: dict[str, str] = {}
    for key, _ in flattened(parameters.dump()):
        if key.startswith("exposure."):
            found[key] = parameters.exposure.origin
        elif key.startswith("light."):
            found[key] = _light(key, source, store)
        elif key in CODE:
            found[key] = "code"
        else:
            found[key] = "estimated" if key in SURVEYED else "given" if given.get(key) else "default"
    return found


def _light(key: str, source: Source, store: SourceStore) -> str:
    header = store.header
    if key == "light.transfer":
        return "given" if source.transfer != "auto" else "metadata" if header.transfer else "default"
    if key == "light.black" or np.dtype(header.dtype) == np.uint8:
        return "default"
    return "metadata" if header.bits else "estimated"
