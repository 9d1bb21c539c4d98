"""The `deblur` command. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from deblur.commands import catalog, evidence, keeping, learning, security, status, versions
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
from deblur.encryption import refuse_shared_kernels
from deblur.errors import INTERRUPTED, ConfigError, DeblurError

if TYPE_CHECKING:
    from deblur.config import JobConfig


class Interrupted(DeblurError):
    """Ctrl-C: nothing that was finished is lost."""

    exit_code = 130


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # left to Typer, it becomes "Aborted!" and 1 or 130, as the version pleases
            raise Interrupted(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help="Takes the motion blur out of whole image archives, with the evidence of how.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere in a command, shows where an error came from.",
)
OPTION = re.compile(r"(?:restore: )?(?:sources\.0|restore|cluster)\.(\w+)(?=: )")
KEY = re.compile(r"\b(?<=give |, or | and )(?:exposure_fraction|exposure_time|frame_rate)\b")
UNTOLD = 0.25  # exposure fraction of a clip that doesn't tell: too short leaves blur, too long would do harm
REMEDIES = {
    errno.ENOSPC: ": free some space; the same command then goes on",
    errno.EDQUOT: ": free some of your quota; the same command then goes on",
    errno.EACCES: ": check its permissions",
    errno.EPERM: ": check its permissions",
    errno.EROFS: ": give a place that can be written to",
    errno.EMFILE: ": raise the limit of open files (ulimit -n)",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors become one line on stderr and the right exit code; `--debug` shows their tracebacks."""
    _one_line_warnings()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        refuse_shared_kernels(os.environ.get("NUMBA_CACHE_DIR"))
        with _terminated_as_interrupted():
            app([argument for argument in given if argument != "--debug"], prog_name="deblur")
    except Exception as error:
        if debug:
            raise
        typer.echo(f"deblur: {_told(error)}", err=True)
        sys.exit(error.exit_code if isinstance(error, DeblurError) else 1)


def _told(error: Exception) -> str:
    """One line: what, and what to do about it."""
    if isinstance(error, DeblurError):
        return str(error)
    if isinstance(error, OSError):
        remedy = REMEDIES.get(error.errno or 0, "")
        return f"{error.filename or 'input or output'}: {error.strerror or error}{remedy}"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{said} (not foreseen, so please report it; the same command with --debug shows where)"


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
    # Python's process that sweeps up after workers that were killed tells the terminal of each such sweep, after the
    # prompt is back. It takes its options from here.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to work.")] = Path("deblur-demo"),
    as_json: AsJson = False,
) -> None:
    """Blur a known scene, run the whole job on it, and show what came of it."""
    from deblur.demo import compiling, demo_results, prepare_demo
    from deblur.terminal import demo_lines, progress_bars
    from flows.attended import attended

    with progress_bars(quiet=as_json) as progress, compiling(progress) as compiled:
        config = prepare_demo(folder, progress=progress)
        with attended(progress):
            from flows.archive import archive

            compiled()
            outcomes = archive(config)
    results = demo_results(folder, outcomes)
    if as_json:
        print_json(results)
    else:
        typer.echo("\n".join(demo_lines(results)))
    leave_with(outcomes)


@app.command()
def restore(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Folder, glob, video, TIFF, .npy or Zarr.")],
    output: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT", help="A folder, or .tif, .ome.tif, .npy, .dcm, .mp4, .mkv, .zarr."),
    ],
    exposure_fraction: Annotated[
        float | None,
        typer.Option(
            "--exposure-fraction",
            "-e",
            help="Exposure time × frame rate, in (0, 1]; else read, estimated, or taken as 0.25.",
        ),
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
    strength: Annotated[
        float | None, typer.Option(help="Hold back: 1 is all of the restoration, 0 the source.")
    ] = None,
    preview: Annotated[
        int,
        typer.Option(
            metavar="N", show_default=False, help="Only restore N frames and draw them, before and after."
        ),
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes; default: one a core, or one for a short clip.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a report: one HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Restore one sequence, or one still that was shaken, without an orchestrator."""
    from deblur.decoder import begin_ahead

    begin_ahead(os.path.expanduser(source))
    from deblur.config import parse_job, with_settings
    from deblur.single import check_output, first_look, restore_file, restore_picture, scratch_of
    from deblur.terminal import outlook_line, progress_bars

    told = {
        "path": source if "://" in source else str(Path(source).expanduser()),
        "exposure_fraction": exposure_fraction,
        "frame_rate": frame_rate,
        "exposure_time": exposure_time,
        "exposure_otherwise": UNTOLD,
        "readout": readout,
        "transfer": transfer,
    }
    cluster = {"kind": "serial"} if workers == 1 else {"kind": "local", "workers": workers}
    asked = {"archive": ".", "sources": [told], "cluster": cluster, "restore": {"strength": strength}}
    try:
        config = parse_job(asked, name="restore")
    except ConfigError as error:  # they were given as options, and are to be named so
        named = OPTION.sub(lambda key: "--" + key[1].replace("_", "-"), str(error))
        raise ConfigError(named.replace("--path", "INPUT", 1)) from None
    config = with_settings(config, dict(map(as_setting, change or ())))
    if preview:
        _show_preview(config, output, preview, as_json)
        return
    going_on = scratch_of(output).exists()
    still, cost, config = first_look(config, output)
    check_output(output, pictures=still)
    if still:
        if report is not None:
            raise ConfigError(f"--report {report}: a still has no report; leave it out")
        found = restore_picture(config, output)
        if as_json:
            print_json(found)
        else:
            typer.echo(found["line"])
        return
    with progress_bars(quiet=as_json) as progress:
        say = (lambda text: None) if as_json else print
        if going_on:
            say(f"{source}: going on where an earlier run was interrupted")
        elif cost is not None:
            say(outlook_line(cost))
        try:
            outcomes = restore_file(config, output, report=report, progress=progress, say=say)
        except ConfigError as error:
            raise ConfigError(KEY.sub(lambda key: "--" + key[0].replace("_", "-"), str(error))) from None
    if as_json:
        print_json([outcome.dump() for outcome in outcomes])
    else:
        for outcome in outcomes:
            if not outcome.published:
                typer.echo(outcome.line())
    leave_with(outcomes)


def _show_preview(config: JobConfig, output: Path, count: int, as_json: bool) -> None:
    from dataclasses import asdict

    from deblur.preview import preview
    from deblur.terminal import preview_lines, progress_bars

    picture = output.parent / f"{output.stem}-preview.png"
    with progress_bars(quiet=as_json) as progress:
        seen = preview(config, picture, count=count, progress=progress)
    if as_json:
        print_json(asdict(seen) | {"picture": str(seen.picture)})
    else:
        typer.echo("\n".join(preview_lines(seen)))


@app.command()
def init(path: Annotated[Path, typer.Argument(metavar="JOB.toml")] = Path("job.toml")) -> None:
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
    print_plans(outcomes, as_json, config.archive)


@app.command()
def run(
    job: JobFile,
    until: Annotated[str, typer.Option(metavar="HH:MM", help="Stop cleanly then; run again to go on.")] = "",
    sample: Annotated[
        int,
        typer.Option(
            metavar="N",
            show_default=False,
            help="Compute only N frames, and write a report of them to look at.",
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Bring the archive up to date with its sources: ingest, plan, compute, verify, publish."""
    from deblur.config import load_job
    from deblur.night import deadline
    from deblur.terminal import progress_bars
    from flows.attended import attended

    config = load_job(job)
    deadline(until)  # before a server is started
    if sample:
        _run_sample(config, job, sample, as_json)
        return
    with progress_bars(quiet=as_json) as progress, attended(progress):
        from flows.archive import archive

        outcomes = archive(config, until)
    report_outcomes(outcomes, as_json)
    if any(outcome.stopped for outcome in outcomes):
        raise Interrupted(f"stopped at {until}; run the same command again to go on")


def _run_sample(config: JobConfig, job: Path, count: int, as_json: bool) -> None:
    from dataclasses import asdict

    from deblur.sample import compute_sample
    from deblur.terminal import progress_bars, sample_lines

    with progress_bars(quiet=as_json) as progress:
        found, outcomes = compute_sample(config, count=count, folder=job.parent, progress=progress)
    if as_json:
        print_json([asdict(part) | {"report": str(part.report)} for part in found])
    else:
        typer.echo("\n".join(sample_lines(found, outcomes, job, config.archive)))
    leave([fault for part in found for fault in part.faults] + [f for o in outcomes for f in o.faults()])


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
def warm() -> None:
    """Compile the kernels into NUMBA_CACHE_DIR: once a container image or host, not in its first unit."""
    from deblur.probe import compile_kernels, seconds_per_megapixel

    compile_kernels()
    speed = seconds_per_megapixel()
    typer.echo("kernels compiled; CPU s a megapixel: " + ", ".join(f"{k} {v:.1f}" for k, v in speed.items()))


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
    security.certificates,
    learning.train,
):
    app.command()(command)
app.command("list")(catalog.find)


if __name__ == "__main__":
    main()
