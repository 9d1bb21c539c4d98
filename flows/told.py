"""A job as a flow's parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deblur.config import JobConfig
from deblur.redact import without_secrets


class Told(Mapping[str, Any]):
    """Prefect stores parameters and shows them to whoever may look: it sees the job without what may be secret."""

    def __init__(self, job: JobConfig) -> None:
        self.job = job
        self._shown: dict[str, Any] = without_secrets(job.model_dump(mode="json", exclude={"hooks"}))

    def __getitem__(self, key: str) -> Any:
        return self._shown[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shown)

    def __len__(self) -> int:
        return len(self._shown)
