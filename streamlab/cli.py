"""The `streamlab` command."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import streamlab
from streamlab import environment, labs
from streamlab.errors import StreamlabError
from streamlab.files import UNWRITABLE, why_not
from streamlab.results import CheckResult

app = typer.Typer(
    help="Pour the River Through a Cup: tools for the course.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def plain_console() -> Console:
    """Standard output, for text as it is: rich takes `:a:` for an emoji, and colours numbers."""
    return Console(highlight=False, emoji=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamlab {streamlab.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `streamlab doctor --json`")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this machine can do for the course, and what will be skipped on it.

    Exit status 1 if something vital is missing.
    """
    from streamlab.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for finding in findings:
            mark = (
                "[green]ok[/]" if finding.ok else "[red]no[/]" if finding.vital else "[yellow]--[/]"
            )
            table.add_row(mark, escape(finding.name), escape(finding.detail))
        plain_console().print(table)
    if any(finding.vital and not finding.ok for finding in findings):
        raise typer.Exit(1)


LabArgument = Annotated[
    str | None,
    typer.Argument(metavar="LAB", help="A lab's number. Default: the lab whose folder you are in."),
]


@app.command(epilog="Examples: `streamlab check 02` · `streamlab check 02 --only wire --keep`")
def check(
    lab: LabArgument = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same files again.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this check (its id) alone.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON for each check.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the files of a check that fails, to try by hand.")
    ] = False,
) -> None:
    """Check your program of a lab. Exit status 1 unless it gets all points."""
    found = labs.find_lab(lab)
    seed = labs.new_seed() if seed is None else seed
    only = [each.lower() for each in only or ()]
    if unknown := set(only) - {each.id for each in found.checks}:
        known = ", ".join(each.id for each in found.checks)
        raise labs.LabError(f"lab {found.number} has no check {min(unknown)}: it has {known}")
    wanted = len(only) if only else len(found.checks)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(f"lab {found.number}", total=wanted)
        results = labs.run_checks(
            found, seed=seed, only=only or None, told=lambda _: bar.advance(task), keep=keep
        )
    if not only:
        labs.remember(found, results)
    if as_json:
        for result in results:
            typer.echo(result.to_json())
    else:
        _show(found, results, seed)
    if any(result.outcome != "passed" for result in results):
        raise typer.Exit(1)


def _show(lab: labs.Lab, results: list[CheckResult], seed: int) -> None:
    """What failed in full, then the table, so that the table is what stands at the bottom."""
    console = plain_console()
    for story in labs.stories(lab, results):
        console.print(story, markup=False, soft_wrap=True)
        console.rule()
    table = Table(box=None, pad_edge=False, show_header=False)
    for result in results:
        colour = {"passed": "green", "not_attempted": "dim"}.get(result.outcome, "red")
        outcome = f"[{colour}]{result.outcome.replace('_', ' ')}[/]"
        points = f"{result.points:g} of {result.max_points:g}"
        table.add_row(outcome, points, lab.check(result.check).title, f"[dim]{result.check}[/]")
    console.print(table)
    total = sum(result.points for result in results)
    console.print(f"{total:g} of {sum(r.max_points for r in results):g} points, seed {seed}")
    if words := labs.advice(lab, results):
        console.print(words, markup=False)


@app.command(epilog="Example: `streamlab hint 02`, and again for one more")
def hint(lab: LabArgument = None) -> None:
    """Show the next hint for the first check that you have not passed."""
    typer.echo(labs.next_hint(labs.find_lab(lab)))


@app.command(epilog="Example: `streamlab reset 02`")
def reset(lab: LabArgument = None) -> None:
    """Put the stub back in place of your program, and keep a copy of it."""
    found = labs.find_lab(lab)
    for copy in labs.reset(found):
        typer.echo(f"kept a copy: {copy}")
    typer.echo(f"{', '.join(found.programs)}: back to the stub")


@app.command(epilog="Example: `streamlab progress --json`")
def progress(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show all labs at a glance, by the last run of all checks of each."""
    rows = [(each, labs.last_results(each)) for each in labs.all_labs()]
    points = {each.name: sum(r.points for r in results) for each, results in rows}
    if as_json:
        summary = [
            {"lab": each.name, "points": points[each.name], "max_points": each.points}
            for each, _ in rows
        ]
        typer.echo(json.dumps(summary, indent=2))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for each, results in rows:
        share = points[each.name] / each.points
        bar = "█" * round(12 * share) + "░" * (12 - round(12 * share))
        state = f"{points[each.name]:g} of {each.points:g}" if results else "not checked yet"
        table.add_row(each.number, each.title, bar, state)
    plain_console().print(table)


RosterOption = Annotated[
    Path, typer.Option(help="CSV file of the class, with a column `student` of ids and one `name`.")
]


@app.command(epilog="Example: `streamlab grade handed-in/ --lab 02 --roster roster.csv --out r02/`")
def grade(
    submissions: Annotated[
        Path, typer.Argument(help="Folder with one folder, zip file or program for each student.")
    ],
    lab: Annotated[str, typer.Option(help="The lab's number.")],
    roster: RosterOption,
    out: Annotated[Path, typer.Option(help="Folder for gradebook, feedback and class page.")],
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="How many submissions to check at once.")
    ] = 1,
    seed: Annotated[int | None, typer.Option(help="Draw the same files again.")] = None,
    scheduler: Annotated[
        str, typer.Option(help="Hand the work to a dask scheduler, such as `tcp://host:8786`.")
    ] = "",
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Where programs can't be isolated: run them as you.")
    ] = False,
    show_seed: Annotated[
        bool, typer.Option("--show-seed", help="Tell students the seed, to draw the same files.")
    ] = False,
) -> None:
    """Grade what a class handed in for a lab, each submission in a sandbox of its own.

    Interrupted and started again, it goes on where it stopped. Exit status 1 if somebody's
    submission could not be graded for a fault of the grader.
    """
    from streamlab.grading.run import grade_class

    found = labs.find_lab(lab)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(f"lab {found.number}", total=None)
        try:
            report = grade_class(
                *(submissions, found, roster, out),
                jobs=jobs,
                seed=seed,
                scheduler=scheduler,
                unsafe=unsafe,
                show_seed=show_seed,
                told=lambda done, total, _: bar.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            bar.stop()
            typer.echo(
                "interrupted: whoever was finished is kept; the same command goes on", err=True
            )
            raise typer.Exit(130) from None
    console = plain_console()
    outcomes = Counter(mark.outcome for mark in report.marks)
    for outcome, count in outcomes.most_common():
        console.print(f"{count:>4}  {outcome.replace('_', ' ')}")
    for name in report.unmatched:
        console.print(f"not on the roster: {name}", markup=False)
    console.print(f"{out / 'gradebook.csv'} · {out / 'class.html'}", markup=False, soft_wrap=True)
    if outcomes["grader_fault"]:
        raise typer.Exit(1)


@app.command(epilog="Example: `streamlab export r02/ --to moodle --template in.csv --out up.csv`")
def export(
    report: Annotated[Path, typer.Argument(help="Folder that `streamlab grade` wrote.")],
    to: Annotated[str, typer.Option(help="Which gradebook: one of those above.")],
    out: Annotated[Path, typer.Option(help="File or folder to write.")],
    template: Annotated[
        Path | None, typer.Option(help="What the other gradebook exported, to be filled.")
    ] = None,
    column: Annotated[str, typer.Option(help="The template's column, if several may be it.")] = "",
    zero_for_missing: Annotated[
        bool, typer.Option("--zero-for-missing", help="Who handed in nothing gets 0 points.")
    ] = False,
) -> None:
    """Bring the marks of a report into another gradebook.

    `--to` is one of `canvas`, `moodle`, `moodle-gradebook`, `gradescope`, `nbgrader`.
    """
    from streamlab.grading.bridges import export as bring
    from streamlab.grading.run import marks_of

    marks, students = marks_of(report)
    lab = labs.find_lab(marks[0].lab if marks else None)
    exported = bring(
        *(to, lab, marks, out, template),
        students=students,
        column=column,
        zero_for_missing=zero_for_missing,
    )
    for message in exported.messages:
        typer.echo(message, err=True)
    typer.echo(f"{exported.target}: {exported.filled} of {len(marks)}")


@app.command(epilog="Example: `streamlab release week3.zip --lab 02 --lab 03`")
def release(
    target: Annotated[Path, typer.Argument(help="The zip file to write.")],
    lab: Annotated[
        list[str] | None, typer.Option(help="A lab to give out, by number. Default: all.")
    ] = None,
) -> None:
    """Make the archive that students get: chapters and labs, no solutions."""
    from streamlab.grading.release import release as write_archive

    for name in write_archive(labs.course_folder(), target, lab or ()):
        typer.echo(name)
    typer.echo(f"{target}: unpack it, then `make lab`")


def main() -> None:
    """Run the command line; an error of the library is one line and exit status 2.

    So is a disk that is full, or a folder that can't be written.
    """
    environment.write_anything()
    try:
        environment.prepare()
        app()
    except StreamlabError as error:
        typer.echo(f"streamlab: {error}", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in UNWRITABLE and "temporary directory" not in str(error):
            raise
        what = error.filename or "a file"
        typer.echo(f"streamlab: can't write {what}: {why_not(error)}", err=True)
        raise SystemExit(2) from None
