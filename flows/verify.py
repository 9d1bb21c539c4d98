"""Verification as a Prefect flow: a sample a night, so that many nights read everything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from flows import settings

settings.prepare()

from prefect import flow  # noqa: E402  (the environment comes first)
from pydantic import Field  # noqa: E402

from deblur.config import load_job  # noqa: E402
from deblur.damage import find_damage  # noqa: E402
from deblur.errors import DeblurError  # noqa: E402
from deblur.hooks import tell  # noqa: E402
from deblur.integrity import repair  # noqa: E402
from deblur.night import Crew  # noqa: E402
from deblur.redact import without_secrets  # noqa: E402
from deblur.store import Archive, Sample  # noqa: E402
from flows.archive import JobFile  # noqa: E402
from flows.attended import report  # noqa: E402


@flow(name="deblur-verify", log_prints=True, persist_result=False)
def verify(
    job_file: JobFile,
    share: Annotated[float, Field(gt=0, le=1)] = 0.05,
    originals: bool = False,
    mend: bool = False,
) -> str:
    """Check the archive's sources and runs against their records; fails when something is damaged and stays so.

    Args:
        job_file: Where the job file lies on the machine that does the work.
        share: How much of the shards to read; another sample each day.
        originals: Also the files that were ingested, where they are still there.
        mend: Make damaged shards again, bit for bit.
    """
    config = load_job(Path(job_file))
    archive = Archive.at(config.archive)
    sample = Sample(share, int(time.time() // 86400))
    damages = list(find_damage(archive, sample=sample, originals=originals, progress=report))
    left = damages
    if mend:
        with Crew(config) as workers:
            left = repair(archive, damages, connection=workers.share, progress=report)
    for damage in left:
        print(damage)
    text = f"{len(damages)} problems found, {max(0, len(damages) - len(left))} mended"
    print(text)
    if left:
        told = {"archive": config.archive, "state": "damaged", "faults": [str(d) for d in left[:100]]}
        tell(config.hooks, without_secrets(told))
        raise DeblurError(f"{len(left)} problems, the first: {left[0]}")
    return text
