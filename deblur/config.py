"""The job file: what to restore, how, and within which limits. Frozen, checked, unknown keys refused."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from deblur.errors import ConfigError, meant, near
from deblur.invalid import fault_line
from deblur.limits import Decode, Limits, Section
from deblur.place import place
from deblur.store.durable import digest_of
from deblur.tiling import round_up

SOURCE_SHARD = 1 << 28  # bytes of the frames that are held while a source is written


def check_address(value: str) -> str:
    """Refuse an address that can't be right or holds credentials, before anything is asked of anybody."""
    try:
        place(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


Address = Annotated[str, AfterValidator(check_address)]


class Source(Section):
    """One thing to read: a folder, a glob, a file. What it says here goes before what the file says."""

    path: Address = Field(
        description="folder, glob, video, TIFF, .npy or Zarr; relative to the job file, or at s3://, gs://, az://"
    )
    id: str | None = Field(
        default=None, description="name of the sequence in the archive; default: from the path"
    )
    frame_rate: float | None = Field(default=None, gt=0, description="frames per second")
    exposure_time: float | None = Field(default=None, gt=0, description="seconds the shutter is open")
    exposure_fraction: float | None = Field(
        default=None, gt=0, le=1, description="exposure time × frame rate; 360° shutter = 1"
    )
    exposure_otherwise: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="exposure fraction where neither files nor frames tell; without it such a sequence is refused",
    )
    readout: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="rolling shutter: time from the first row to the last / frame interval; 0: global shutter",
    )
    transfer: Literal["auto", "srgb", "linear"] = Field(default="auto", description="how codes become light")
    order: Literal["name", "time"] = Field(default="name", description="order of the files of a folder")
    within: Address | None = Field(
        default=None, description="folder that links may not lead `path` out of; a watched place is one"
    )
    camera: str = Field(default="", description="which camera took it; the catalog finds sequences by it")
    metadata: dict[str, str | float | bool] = Field(
        default={}, description="whatever else the catalog should find sequences by"
    )

    @model_validator(mode="after")
    def _within_a_frame(self) -> Source:
        fraction = (self.exposure_time or 0) * (self.frame_rate or 0)
        if fraction > 1.001:
            raise ValueError(f"exposure_time × frame_rate is {fraction:.3g}, beyond 1: correct one of them")
        return self


class Watch(Source):
    """A place where sequences keep arriving: each match of `pattern` below `path` is one. The other fields apply to
    all of them."""

    pattern: str = Field(default="*", description="what below `path` is a sequence: a glob, as '*/*.mp4'")
    quiet: float = Field(
        default=300.0, ge=0, description="seconds without a change; before that it is still being written"
    )


class Hooks(Section):
    """Who is told when a night failed. The report is JSON: on the command's stdin, as the webhook's body."""

    command: tuple[str, ...] = Field(default=(), description="a program and its arguments")
    webhook: str = Field(default="", description="an http(s) address; never written into any record")
    mail: str = Field(default="", description="an address")
    smtp: str = Field(default="localhost:25", description="host:port of the mail server")


class MotionSettings(Section):
    method: str = Field(
        default="fast",
        description="a name from deblur.motion.METHODS; frames restored with 'accurate' are no better",
    )


class RestoreOptions(Section):
    """The last stage. A field left out takes the method's own default, and the resolved value is recorded."""

    method: str | None = Field(default=None, description="a name from deblur.deconv.METHODS")
    iterations: int | None = Field(default=None, ge=1, le=1000, description="at most so many solver steps")
    regularisation: float | None = Field(default=None, ge=0, description="weight of the prior")
    strength: float | None = Field(
        default=None, ge=0, le=1, description="every weight times this: 1 all of it, 0 the source"
    )
    network: str | None = Field(
        default=None, description="method hybrid: weights made by `deblur train`, instead of the package's"
    )
    provider: str | None = Field(
        default=None, description="method hybrid: what ONNX Runtime computes with: CPU, CUDA, …"
    )


class Tiling(Section):
    """Sizes in pixels and frames. None of them but `window` changes a bit of the result.

    `window`, `unit` and `frames` are chosen for each sequence where they aren't given (`deblur.layout.choose`).
    """

    window: int | None = Field(
        default=None, ge=64, description="side of the windows that the numerics run on"
    )
    chunk: int = Field(default=256, ge=16, description="side of a Zarr chunk")
    shard: int = Field(default=1024, ge=16, description="side of a shard (one file)")
    unit: int | None = Field(default=None, ge=64, description="side of the region one task computes")
    frames: int | None = Field(default=None, ge=1, description="frames of a shard and of a unit")

    @model_validator(mode="after")
    def _whole(self) -> Tiling:
        for name, part, whole, size in (
            ("shard", "chunk", self.shard, self.chunk),
            ("unit", "window", self.unit, self.window),
            ("unit", "shard", self.unit, self.shard),
        ):
            if whole and size and whole % size:
                raise ValueError(
                    f"{name} = {whole} is no multiple of {part} = {size}: try {round_up(whole, size)}"
                )
        if self.window and self.window % 64:  # windows must see the pyramid that the whole frame sees
            raise ValueError(f"window = {self.window} is no multiple of 64: try {round_up(self.window, 64)}")
        return self

    def source_frames(self, frame_bytes: int) -> int:
        """Frames of a shard of the source: fewer of large ones, so that reading them in takes little memory."""
        return max(1, min(self.frames or 4, SOURCE_SHARD // frame_bytes))


BATCH = ("slurm", "pbs", "sge", "lsf", "oar", "moab", "htcondor")
OF_KIND = {  # which keys mean something for which kinds of cluster
    "address": ("address",),
    "minimum": (*BATCH, "kubernetes"),
    "hosts": ("ssh",),
    "trust_hosts": ("ssh",),
    "queue": BATCH,
    "account": BATCH,
    "walltime": BATCH,
    "interface": BATCH,
    "directives": BATCH,
    "prologue": BATCH,
    "shared": BATCH,
    "python": (*BATCH, "ssh"),
    "image": ("kubernetes",),
    "namespace": ("kubernetes",),
    "claims": ("kubernetes",),
    "tls_ca": (*BATCH, "address", "ssh"),
}


class Cluster(Section):
    """Who computes; the result has the same bits whoever does. Keys of another kind of cluster are refused."""

    kind: Literal[
        "serial",
        "local",
        "address",
        "ssh",
        "slurm",
        "pbs",
        "sge",
        "lsf",
        "oar",
        "moab",
        "htcondor",
        "kubernetes",
    ] = "local"
    workers: int | None = Field(
        default=None,
        ge=1,
        description="processes, the most there may be; local: one a core that memory allows",
    )
    minimum: int | None = Field(
        default=None,
        ge=0,
        description="adaptive: so few when there is little to do; default: always `workers`",
    )
    patience: float | None = Field(
        default=None,
        ge=0,
        description="seconds without any worker after which a run leaves; local 60, address and ssh 600, others never",
    )
    address: str | None = Field(default=None, description="tcp://… or tls://… of a running Dask scheduler")
    hosts: tuple[str, ...] = Field(default=(), description="ssh: the scheduler's host, then the workers'")
    trust_hosts: bool = Field(default=False, description="ssh: don't check host keys")
    queue: str | None = Field(default=None, description="partition or queue of the batch system")
    account: str | None = Field(default=None, description="who the batch system charges")
    walltime: str | None = Field(
        default=None, pattern=r"^(\d+-)?\d+:\d\d:\d\d$", description="of a job: HH:MM:SS or D-HH:MM:SS"
    )
    interface: str | None = Field(default=None, description="network interface, such as ib0")
    directives: tuple[str, ...] = Field(default=(), description="further options of the batch job")
    prologue: tuple[str, ...] = Field(default=(), description="shell lines before a worker starts")
    shared: str | None = Field(default=None, description="folder that all hosts see, for certificates")
    python: str | None = Field(default=None, description="Python of the workers; default: this one")
    image: str | None = Field(default=None, description="kubernetes: container image with deblur in it")
    namespace: str | None = Field(default=None, description="kubernetes: namespace")
    claims: tuple[Annotated[str, Field(pattern="^[a-z0-9.-]+:/.+$")], ...] = Field(
        default=(),
        description="kubernetes: persistent volume claims that workers mount where the job does, as archive:/archive",
    )
    tls_ca: str | None = Field(default=None, description="certificate of the authority, PEM")
    tls_cert: str | None = Field(default=None, description="certificate of client, scheduler and workers")
    tls_key: str | None = Field(default=None, description="its key")
    kernels: str | None = Field(
        default=None, description="folder on each host that keeps compiled kernels (NUMBA_CACHE_DIR)"
    )

    @model_validator(mode="after")
    def _of_its_kind(self) -> Cluster:
        for key, kinds in OF_KIND.items():
            if getattr(self, key) not in (None, (), False) and self.kind not in kinds:
                raise ValueError(f"{key} is for {', '.join(kinds)}, not for kind = {self.kind!r}: remove one")
        if self.kind == "address" and self.address is None:
            raise ValueError(
                "kind = 'address' and address = 'tcp://host:port' go together: give both or neither"
            )
        if self.kind == "ssh" and len(self.hosts) < 2:
            raise ValueError("kind = 'ssh' needs hosts = [scheduler, worker, …], at least two names")
        if self.kind == "kubernetes" and self.image is None:
            raise ValueError("kind = 'kubernetes' needs image = 'registry/deblur:tag'")
        if self.kind in (*BATCH, "kubernetes") and self.workers is None:
            raise ValueError(f"kind = {self.kind!r} needs workers = how many at the most")
        if self.workers is not None and (self.minimum or 0) > self.workers:
            raise ValueError(f"minimum = {self.minimum} is more than workers = {self.workers}")
        if len({self.tls_ca is None, self.tls_cert is None, self.tls_key is None}) > 1:
            raise ValueError("tls_ca, tls_cert and tls_key go together: give all or none")
        return self


class Publication(Section):
    """Which finished runs readers see at once, and which wait for `deblur promote`."""

    by: Literal["quality", "person"] = Field(
        default="quality", description="'quality': runs that pass the gate; 'person': none by itself"
    )
    quality: float = Field(
        default=0.0, ge=0, le=1, description="least share of pixels restored or needing nothing"
    )
    drop: float = Field(
        default=0.1, ge=0, le=1, description="how much lower than the published run's that share may be"
    )


class JobConfig(Section):
    """A whole job.

    >>> job = JobConfig.model_validate({"archive": "a", "sources": [{"path": "clip.mp4"}]})
    >>> job.limits.memory
    4294967296
    """

    archive: Address = Field(description="folder of the archive, or s3://bucket/…; made if it isn't there")
    sources: tuple[Source, ...] = ()
    watch: tuple[Watch, ...] = Field(default=(), description="places where sequences keep arriving")
    motion: MotionSettings = MotionSettings()
    restore: RestoreOptions = RestoreOptions()
    tiling: Tiling = Tiling()
    outputs: tuple[Literal["gradients"], ...] = Field(
        default=(), description="what to store beyond the usual"
    )
    limits: Limits = Limits()
    decode: Decode = Decode()
    cluster: Cluster = Cluster()
    publish: Publication = Publication()
    hooks: Hooks = Hooks()

    @model_validator(mode="after")
    def _something(self) -> JobConfig:
        if not self.sources and not self.watch:
            raise ValueError("sources: give at least 1, or a [[watch]]")
        return self

    @property
    def digest(self) -> str:
        """Digest of every setting, so that no field can be changed unseen."""
        return digest_of(self.model_dump(mode="json"))


def load_job(path: Path) -> JobConfig:
    """Read a job file (TOML); its relative paths are taken from where it lies. Raises ConfigError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such job file{near(path)}: check the path, or let `deblur init {path}` write one"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: name the job file, a .toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); check the path and its permissions") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    job = parse_job(raw, name=str(path))
    here = path.resolve().parent
    return job.model_copy(
        update={
            "archive": _anchored(job.archive, here),
            "sources": tuple(_at(here, source) for source in job.sources),
            "watch": tuple(_at(here, watch) for watch in job.watch),
            "restore": job.restore.model_copy(
                update={"network": job.restore.network and _anchored(job.restore.network, here)}
            ),
        }
    )


def parse_job(raw: Mapping[str, Any], *, name: str = "job") -> JobConfig:
    """Check a job given as plain values. Raises ConfigError: one line, every fault named with its key."""
    try:
        return JobConfig.model_validate(raw)
    except ValidationError as error:
        faults = error.errors()
        # a list whose only entry is wrong also counts as too short: one fault, said once
        real = [fault for fault in faults if fault["type"] != "too_short"] or faults
        raise ConfigError(f"{name}: " + "; ".join(fault_line(fault, JobConfig) for fault in real)) from None


def with_settings(job: JobConfig, settings: Mapping[str, Any]) -> JobConfig:
    """A job with some dotted keys changed, as in {"restore.iterations": 20}. Raises ConfigError."""
    raw = job.model_dump(mode="json")
    for key, value in settings.items():
        *sections, last = key.split(".")
        place: Any = raw
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise ConfigError(f"{key}: no such setting{meant(key, _keys(raw))}")
        place[last] = value
    return parse_job(raw)


def _keys(raw: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in raw.items():
        found += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


SourceOrWatch = TypeVar("SourceOrWatch", bound=Source)


def _at(here: Path, source: SourceOrWatch) -> SourceOrWatch:
    within = None if source.within is None else _anchored(source.within, here)
    return source.model_copy(update={"path": _anchored(source.path, here), "within": within})


def _anchored(path: str, here: Path) -> str:
    return path if "://" in path else str(here / Path(path).expanduser())
