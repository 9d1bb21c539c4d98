"""An archive folder and the sequences in it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deblur.errors import StoreError, meant, near
from deblur.place import ObjectPlace, Place, listed, place
from deblur.store import survey
from deblur.store.durable import (
    checked,
    is_intact,
    json_bytes,
    move_tree,
    partials_below,
    read_checked,
    read_json,
    read_seen,
    remove_tree,
    settle_folders,
    with_digest,
    write_atomic,
    write_checked,
    write_new,
)
from deblur.store.lease import Lease
from deblur.store.owner import staged_in_vain
from deblur.store.run import RunSpec, RunStore
from deblur.store.slug import slug, suffixed
from deblur.store.source import SourceStore

FORMAT = 1
SUFFIX = ".ome.zarr"
IDENTITY, IDENTITY_COPY = "archive.json", "archive.copy.json"
PUBLICATION, PUBLICATION_COPY = "current.json", "current.copy.json"
DECIDED = ("run", "token", "history")  # what it holds
REPAIR = "_repair-"  # a run in which another one's damaged units are computed again
_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class _LaterFormat(StoreError):
    """No damage: nothing is to be mended."""


class Archive:
    """A folder with `archive.json` and `sequences/`. Opening reads one small file; pickled by its path
    only."""

    def __init__(self, path: str | Place) -> None:
        self.path = place(path)
        self.made = False  #: whether `create` made it, rather than somebody before

    def __reduce__(self) -> tuple[Any, ...]:
        return Archive, (self.path,)

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | Place) -> Archive:
        """Make an archive, or open the one that is there.

        Raises StoreError where the folder holds something else: deblur doesn't mix its files with others'.
        """
        where = place(path)
        there = (where / IDENTITY).is_file() or (where / IDENTITY_COPY).is_file()
        made = not there and _made(where)
        archive = cls.open(where)
        archive.made = made
        if not (where / IDENTITY_COPY).is_file():
            archive.mend()
        return archive

    @classmethod
    def open(cls, path: str | Place) -> Archive:
        """Open an archive. Raises StoreError where there is none, or one of a later format."""
        archive = cls(path)
        _ = archive.id  # raises
        return archive

    @classmethod
    def at(cls, path: str | Place) -> Archive:
        """The same for those who look for damage: it may be that only the copy of archive.json is whole."""
        archive = cls(path)
        return archive if archive._has_copy() else cls.open(path)

    def mend(self) -> None:
        """Put archive.json right by its copy, else the copy by it. Raises StoreError where neither is whole."""
        good, other = IDENTITY, IDENTITY_COPY
        try:
            self._id_in(good)
        except _LaterFormat:
            raise
        except StoreError:
            good, other = other, good
            self._id_in(good)
        write_atomic(self.path / other, (self.path / good).read_bytes())

    @cached_property
    def id(self) -> str:
        """The archive's own id, whatever its folder is called today."""
        try:
            return self._id_in(IDENTITY)
        except _LaterFormat:
            raise
        except StoreError:
            if not self._has_copy():
                raise
        raise StoreError(
            f"{self.path / IDENTITY} is damaged or missing: `deblur verify {self.path} --repair` restores it"
        )

    def _has_copy(self) -> bool:
        try:
            return bool(self._id_in(IDENTITY_COPY))
        except StoreError:
            return False

    def _id_in(self, name: str) -> str:
        """The id by archive.json or its copy. Raises StoreError where that is damaged or missing."""
        where = self.path / name
        if isinstance(self.path, Path) and not where.is_file():
            raise StoreError(_no_archive(self.path))
        told = read_json(where, what="archive")
        form = told.get("format")
        if isinstance(form, int) and form > FORMAT and is_intact(told, keys=told):
            raise _LaterFormat(
                f"{self.path} is of archive format {form}, this deblur reads {FORMAT}: update deblur"
            )
        known = checked(told, where, what="archive", keys=("format", "id")).get("id")
        if not isinstance(known, str):
            raise StoreError(f"the archive at {self.path} has lost its id: restore its {name}")
        return known

    def id_of(self, name: str) -> str:
        """The id that the sequence called `name` has, or would get here."""
        plain = slug(name)
        taken = {entry.lower(): entry for entry in self._folders()}.get(plain.lower())
        return suffixed(name) if taken is not None and taken != plain else plain

    def sequence(self, sequence_id: str) -> SequenceStore:
        """The sequence with this id, ingested or not. Raises StoreError for what can't be an id."""
        if slug(sequence_id) != sequence_id and not re.fullmatch(
            r"[A-Za-z0-9_.-]+~[0-9a-f]{12}", sequence_id
        ):
            raise StoreError(
                f"{sequence_id!r} can't be the id of a sequence: see `deblur status` for those there are"
            )
        return SequenceStore(self.path / "sequences" / sequence_id)

    def unknown(self, sequence_id: str) -> StoreError:
        """The error for a sequence that isn't there."""
        slip = meant(sequence_id, self.sequences())
        return StoreError(
            f"{self.path} has no sequence {sequence_id!r}{slip}: see `deblur status {self.path}`"
        )

    def sequences(self) -> tuple[str, ...]:
        """The ids of the sequences whose ingest has finished, sorted."""
        return tuple(entry for entry in sorted(self._folders()) if self.sequence(entry).source.exists)

    def headless(self) -> tuple[str, ...]:
        """The ids of sequences that hold something, but whose source has lost its metadata."""
        return tuple(
            entry
            for entry in sorted(self._folders())
            if not self.sequence(entry).source.exists
            and any((self.path / "sequences" / entry / name).exists() for name in ("runs", f"source{SUFFIX}"))
        )

    def _folders(self) -> list[str]:
        try:
            return [
                entry.name for entry in (self.path / "sequences").iterdir() if not entry.name.startswith(".")
            ]
        except FileNotFoundError:
            return []


def _made(path: Place) -> bool:
    """Whether it was us who made an archive there: of two who do so at once, one does."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        strange = any(not one.name.startswith(".") and not _empty(one) for one in path.iterdir())
        if strange and not (path / IDENTITY).is_file():  # else somebody made it just now
            raise StoreError(f"{path} is not empty and not an archive: choose another folder")
        (path / "sequences").mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"can't make an archive at {path}: {error.strerror}") from None
    made = write_new(path / IDENTITY, json_bytes(with_digest({"format": FORMAT, "id": str(uuid.uuid4())})))
    settle_folders([path, path.parent])
    return made


def _empty(path: Place) -> bool:
    """Whether this is what an archive that was never begun may hold: an empty folder for its sequences."""
    return path.name == "sequences" and path.is_dir() and not any(path.iterdir())


class SequenceStore:
    """Everything of one sequence: its source, survey, lease, runs and which of them is published."""

    def __init__(self, path: str | Place) -> None:
        self.path = place(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return SequenceStore, (self.path,)

    def __repr__(self) -> str:
        return f"SequenceStore({str(self.path)!r})"

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        """What the source called this sequence."""
        return self.source.header.name

    @cached_property
    def source(self) -> SourceStore:
        return SourceStore(self.path / f"source{SUFFIX}")

    @property
    def survey_path(self) -> Place:
        return self.path / "survey"

    def has_survey(self) -> bool:
        return (self.survey_path / "zarr.json").is_file()

    def survey_is_replaced(self) -> bool:
        """Whether there is none because somebody is putting another in its place, or died as he did: the next run or
        repair goes on."""
        aside = listed(self.path, f".{self.survey_path.name}.*")
        return not self.survey_path.exists() and any(map(survey.is_finished, aside))

    def draft_survey(
        self, key: str, told: Mapping[str, Any], arrays: Mapping[str, tuple[tuple[int, ...], str, int]]
    ) -> survey.Draft:
        """A survey in the making, or the one that was left with this key (see `store.survey.Draft.begin`)."""
        return survey.Draft.begin(self.survey_path, key, told, arrays)

    def opened_draft(self, name: str) -> survey.Draft:
        """The draft of a survey whose folder has this name."""
        return survey.Draft(self.path / name)

    def survey_part(self, name: str, t0: int, t1: int) -> NDArray[Any]:
        """Rows t0..t1 of one array of the survey; those of `forward` and `backward` are pairs of frames t and t + 1."""
        return survey.read_survey_part(self.survey_path, name, t0, t1)

    def check_survey(self) -> None:
        """Raise StoreError for a survey that is missing or damaged anywhere."""
        survey.check_survey(self.survey_path)

    def survey_attrs(self) -> dict[str, Any]:
        """The survey's plain values, without its arrays."""
        return survey.read_survey_attrs(self.survey_path)

    def survey_digest(self) -> str:
        return survey.read_survey_digest(self.survey_path)

    def runs(self) -> tuple[str, ...]:
        """The ids of all runs, finished or not, sorted; those in which a repair works are none."""
        names = (path.name.removesuffix(SUFFIX) for path in (self.path / "runs").glob(f"[!.]*{SUFFIX}"))
        return tuple(sorted(name for name in names if not name.startswith(REPAIR)))

    def sweep(self) -> None:
        """Remove what was left by removals, repairs, surveys and copies that were killed, and by runs that were being laid
        out; only while holding the lease."""
        for aside in listed(self.path, f".{self.survey_path.name}.*.repair"):
            if not self.survey_path.exists():
                move_tree(aside, self.survey_path)
        for folder in self._folders_left():
            remove_tree(folder)
        for partial in self._partials_left():
            partial.unlink(missing_ok=True)

    def leftovers(self) -> list[Place]:
        """What `sweep` would remove; of whoever holds the lease there may be some that are none."""
        return [*self._folders_left(), *self._partials_left()]

    def _folders_left(self) -> list[Place]:
        runs = self.path / "runs"
        found = [*listed(runs, f"{REPAIR}*"), *listed(runs, ".*.staging"), *listed(self.path, ".*.repair")]
        for folder in (self.path, runs, self.path / "evidence", self.path / "pruned"):
            found += listed(folder, ".*.gone")
        return [*found, *survey.left_over(self.survey_path), *staged_in_vain(self.source.path)]

    def _partials_left(self) -> list[Place]:
        if isinstance(self.path, ObjectPlace):
            return []  # there a PUT is whole or not there: nothing to look for
        found = [left for name in ("evidence", "pruned") for left in partials_below(self.path / name)]
        folders = [self.survey_path]  # and records of runs; shards are for their run to sweep
        for run in map(self.run_path, self.runs()):
            folders += [run, run / "provenance"]
        return found + [left for folder in folders for left in listed(folder, ".*.partial")]

    def run_path(self, run_id: str) -> Place:
        if not _RUN_ID.fullmatch(run_id):
            raise StoreError(f"{run_id!r} can't name a run: use letters, digits, dot, dash, underscore")
        return self.path / "runs" / f"{run_id}{SUFFIX}"

    def create_run(self, run_id: str, spec: RunSpec) -> RunStore:
        """Make a run's store, or open the same one again (see `RunStore.create`)."""
        return RunStore.create(self.run_path(run_id), spec)

    def run(self, run_id: str) -> RunStore:
        """An existing run. Raises StoreError naming those there are."""
        run = RunStore(self.run_path(run_id))
        if not run.exists:
            raise StoreError(
                f"sequence {self.id} has no run {run_id!r}; it has: {', '.join(self.runs()) or 'none'}"
            )
        return run

    def current(self) -> str | None:
        """The id of the published run, if any."""
        run = self.publication()[0].get("run")
        return None if run is None else str(run)

    def publication(self) -> tuple[dict[str, Any], str]:
        """Which run is published, since which lease, and what came before, and the version of that (see
        `durable.write_seen`); empty where none ever was."""
        path = self.path / PUBLICATION
        value, seen = read_seen(path, what="publication")
        return checked(value, path, what="publication", keys=DECIDED) if value else value, seen

    def kept_publication(self) -> dict[str, Any]:
        """The second copy of that. Raises StoreError where there is none, or it is damaged."""
        return read_checked(self.path / PUBLICATION_COPY, what="copy of the publication", keys=DECIDED)

    def keep_publication(self, told: Mapping[str, Any] | None = None) -> None:
        """Write the second copy: of what is about to be published, else of what is."""
        write_checked(self.path / PUBLICATION_COPY, self.publication()[0] if told is None else told)

    def restore_publication(self) -> None:
        """Put the copy in the place of the publication. Raises StoreError where the copy can't be used."""
        write_checked(self.path / PUBLICATION, self.kept_publication())

    def lease(self) -> Lease:
        """The right to work on this sequence; `acquire` it."""
        return Lease(self.path)


def _no_archive(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist{near(path)}: check the path of the archive"
    what = "has no archive.json in it" if path.is_dir() else "is no folder"
    return f"{path} {what}, so it is no archive: name the folder that `archive` in the job file tells"
