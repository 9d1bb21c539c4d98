"""The `deblur` command. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deblur.commands import catalog, evidence, keeping, status, versions
from deblur.commands.answers import (
    AsJson,
    JobFile,
    as_setting,
    leave,
    leave_with,
    print_json,
    print_plans,
    report_outcomes,
)
from deblur.errors import ConfigError, DeblurError


class Interrupted(DeblurError):
    """Ctrl-C: nothing that was finished is lost."""

    exit_code = 130


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # left to Typer, it becomes "Aborted!" and 1 or 130, as the version pleases
            raise Interrupted("interrupted; run the same command again to go on") from None


app = typer.Typer(
    cls=_Commands,
    help="Takes the motion blur out of whole image archives, with the evidence of how.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors that deblur raises on purpose become one line on stderr and the right exit code."""
    _one_line_warnings()
    try:
        with _terminated_as_interrupted():
            app(arguments, prog_name="deblur")
    except DeblurError as error:
        typer.echo(f"deblur: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written to
        typer.echo(f"deblur: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        sys.exit(1)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, from a batch system or a service manager, is what Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _one_line_warnings() -> None:
    """What the library logs comes back in the outcome, once, at the end; it must not be said twice."""
    import logging

    logging.getLogger("deblur").addHandler(logging.NullHandler())


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to work.")] = Path("deblur-demo"),
) -> None:
    """Blur a known scene, run the whole job on it, and show what came of it."""
    from deblur.demo import prepare_demo, show_demo
    from deblur.terminal import progress_bars
    from flows.attended import attended

    with progress_bars() as progress:
        config = prepare_demo(folder, progress=progress)
        with attended(progress):
            from flows.archive import archive

            outcomes = archive(config)
    typer.echo(show_demo(folder, outcomes))
    leave_with(outcomes)


@app.command()
def init(path: Annotated[Path, typer.Argument(metavar="[JOB.toml]")] = Path("job.toml")) -> None:
    """Write a commented job file to start from."""
    from deblur.template import TEMPLATE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise ConfigError(f"{path} exists already: give another name") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}): give another place") from None
    typer.echo(f"{path} written: name your frames in it, then `deblur plan {path}`")


@app.command()
def run(
    job: JobFile,
    until: Annotated[str, typer.Option(metavar="HH:MM", help="Stop cleanly then; run again to go on.")] = "",
    as_json: AsJson = False,
) -> None:
    """Bring the archive up to date with its sources: ingest, plan, compute, verify, publish."""
    from deblur.config import load_job
    from deblur.terminal import progress_bars
    from flows.attended import attended

    config = load_job(job)
    with progress_bars(quiet=as_json) as progress, attended(progress):
        from flows.archive import archive

        outcomes = archive(config, until)
    report_outcomes(outcomes, as_json)
    if any(outcome.stopped for outcome in outcomes):
        raise Interrupted(f"stopped at {until}; run the same command again to go on")


@app.command()
def ingest(job: JobFile, as_json: AsJson = False) -> None:
    """Read new sources into the archive, without computing anything."""
    from deblur import job as work
    from deblur.config import load_job
    from deblur.night import with_arrivals
    from deblur.terminal import progress_bars

    with progress_bars(quiet=as_json) as progress:
        found = work.ingest(with_arrivals(load_job(job)), progress=progress)
    lines = [s.describe() for s in found]
    if as_json:
        print_json([s.dump() for s in found])
    else:
        typer.echo("\n".join(lines))
    broken = [text for s in found for text in s.broken]
    leave(broken)


@app.command()
def plan(job: JobFile, as_json: AsJson = False) -> None:
    """Ingest and survey what is new, then say what a run would take: units, halo, memory, time, disk."""
    from deblur import job as work
    from deblur.config import load_job
    from deblur.night import with_arrivals
    from deblur.terminal import progress_bars

    config = load_job(job)
    with progress_bars(quiet=as_json) as progress:
        found = work.ingest(with_arrivals(config), progress=progress)
        outcomes = work.plan(config, found, progress=progress, check=True)
    print_plans(outcomes, as_json)


@app.command()
def warm() -> None:
    """Compile the kernels into NUMBA_CACHE_DIR: once a container image or host, not in its first unit."""
    from deblur.probe import seconds_per_megapixel

    speed = seconds_per_megapixel()
    typer.echo("kernels compiled; CPU s a megapixel: " + ", ".join(f"{k} {v:.1f}" for k, v in speed.items()))


@app.command()
def restore(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Folder, glob, video, TIFF, .npy or Zarr.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="A folder, or .tif, .npy, .mp4, .mkv, .zarr.")
    ],
    exposure_fraction: Annotated[
        float | None, typer.Option("--exposure-fraction", "-e", help="Exposure time × frame rate, in (0, 1].")
    ] = None,
    frame_rate: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    exposure_time: Annotated[float | None, typer.Option(help="Seconds the shutter is open.")] = None,
    readout: Annotated[
        float, typer.Option(help="Rolling shutter: time from first row to last / frame interval.")
    ] = 0.0,
    transfer: Annotated[str, typer.Option(help="auto, srgb or linear.")] = "auto",
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of a job file.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a report: one HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Restore one sequence, or one still that was shaken, without an orchestrator."""
    from deblur.config import parse_job, with_settings
    from deblur.single import is_still, restore_file, restore_picture
    from deblur.terminal import progress_bars

    told = {
        "path": str(Path(source).expanduser()),
        "exposure_fraction": exposure_fraction,
        "frame_rate": frame_rate,
        "exposure_time": exposure_time,
        "readout": readout,
        "transfer": transfer,
    }
    cluster = {"kind": "serial"} if workers == 1 else {"kind": "local", "workers": workers}
    config = with_settings(
        parse_job({"archive": ".", "sources": [told], "cluster": cluster}, name="restore"),
        dict(map(as_setting, change or ())),
    )
    if is_still(config.sources[0]):
        if report is not None:
            raise ConfigError(f"--report {report}: a still has no report; leave it out")
        found = restore_picture(config.sources[0], output)
        if as_json:
            print_json(found)
        else:
            typer.echo(found["line"])
        return
    with progress_bars(quiet=as_json) as progress:
        outcomes = restore_file(config, output, report=report, progress=progress)
    report_outcomes(outcomes, as_json)


for command in (
    keeping.reprocess,
    status.status,
    keeping.verify,
    keeping.export,
    versions.diff,
    versions.promote,
    versions.retract,
    versions.rollback,
    versions.prune,
    evidence.explain,
    evidence.provenance,
):
    app.command()(command)
app.command("list")(catalog.find)


if __name__ == "__main__":
    main()
