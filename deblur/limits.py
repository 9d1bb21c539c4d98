"""The job file's `[limits]` and `[decode]`: what sources may ask of this machine, and how foreign files are decoded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from deblur.types import Isolation, ReadLimits

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
USUAL, APART = ReadLimits(), Isolation()


def parse_bytes(value: Any) -> Any:
    """'4 GiB' → 4294967296; numbers pass through."""
    if not isinstance(value, str):
        return value
    number = value.rstrip("BbGgMmKkIi ")
    unit = value[len(number) :].strip().upper()
    try:
        return int(float(number) * UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError(f"{value!r} is not a size: write it like '4 GiB'") from None


Size = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Section):
    memory: Size = Field(
        default=parse_bytes("4 GiB"), description="per worker process; a plan over it is refused"
    )
    broken: float = Field(
        default=0.1, ge=0, le=1, description="share of a sequence's frames that may be quarantined"
    )
    max_pixels: int = Field(default=USUAL.max_pixels, gt=0, description="of a frame")
    max_bytes: Size = Field(default=USUAL.max_bytes, description="of a decoded frame, or a chunk of a Zarr")
    max_pages: int = Field(default=USUAL.max_pages, gt=0, description="frames of a sequence")
    max_ratio: float = Field(
        default=USUAL.max_ratio, gt=0, description="decoded over stored bytes of a frame above 64 MiB"
    )
    links: Literal["inside", "anywhere"] = Field(
        default=USUAL.links, description="where symbolic links in a folder of sources may lead"
    )

    @property
    def reading(self) -> ReadLimits:
        """Those that a source is held to."""
        return ReadLimits(self.max_pixels, self.max_bytes, self.max_pages, self.max_ratio, self.links)


class Decode(Section):
    isolation: bool = Field(
        default=True, description="pictures, TIFF, video and Zarr are decoded in a process of their own"
    )
    memory: Size = Field(
        default=APART.memory, description="that this process may take beside six times a frame"
    )
    seconds: float = Field(
        default=APART.seconds, gt=0, description="of CPU time that it may take for a frame, or to open a file"
    )

    @property
    def apart(self) -> Isolation | None:
        """The limits of that process; None where there is none."""
        return Isolation(self.memory, self.seconds) if self.isolation else None
