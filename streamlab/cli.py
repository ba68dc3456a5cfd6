"""The `streamlab` command."""

from __future__ import annotations

import errno
import json
import os
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
)
from rich.table import Column, Table

import streamlab
from streamlab import environment
from streamlab.errors import StreamlabError
from streamlab.files import UNWRITABLE, reason_of
from streamlab.grading.command import collect, grade
from streamlab.labs import failures, manifest, runner, shared_guesses
from streamlab.labs.chapters import Chapter, chapters
from streamlab.labs.command import left_out, programs_of, with_command
from streamlab.labs.progress import last_results, next_hint, remember
from streamlab.labs.progress import reset as reset_lab
from streamlab.labs.results import CheckResult
from streamlab.probe.command import probe

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


@app.command(
    epilog="Examples: `streamlab check 02` · `streamlab check 02 --only wire --keep` · "
    "`streamlab check 05 --command './server --root {root} --port {port}'`"
)
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
    command: Annotated[
        str,
        typer.Option(
            help="Check this command in place of your program: {root} and {port} stand for the "
            "folder and the port. For programs in other languages."
        ),
    ] = "",
) -> None:
    """Check your program of a lab. Exit status 1 unless it gets all points."""
    found = manifest.find_lab(lab)
    if command:
        found = with_command(found, command)
    if not Path.cwd().resolve().is_relative_to(found.folder.parent.parent):
        typer.echo(f"lab {found.number}: {os.path.relpath(found.folder)}", err=True)
    seed = runner.new_seed() if seed is None else seed
    only = [each.lower() for each in only or ()]
    if unknown := set(only) - {each.id for each in found.checks}:
        known = ", ".join(each.id for each in found.checks)
        raise manifest.LabError(f"lab {found.number} has no check {min(unknown)}: it has {known}")
    in_full = keep or bool(only)  # one check that the student asked for is told in full
    skipped = left_out(found) if command else {}
    if unfit := set(only) & set(skipped):
        raise manifest.LabError(f"{min(unfit)} needs a program in Python: {skipped[min(unfit)]}")
    if skipped:
        only = only or [each.id for each in found.checks if each.id not in skipped]
    wanted = len(only) if only else len(found.checks)
    with (
        Progress(
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            # What it does and waits for, as much of it as fits the line.
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        ) as bar,
        programs_of(found) as programs,
    ):
        task = bar.add_task(f"lab {found.number}", total=wanted)
        results = runner.run_checks(
            found,
            programs,
            only=only or None,
            told=lambda _: bar.advance(task),
            doing=lambda step: bar.update(task, description=failures.step_text(found, step)),
            options=runner.RunOptions(seed=seed, keep=keep),
        )
    if not command:
        remember(found, results, whole=not only)
    if as_json:
        for result in results:
            typer.echo(result.to_json())
    else:
        _show(found, results, seed, short=not in_full)
        for name, why in skipped.items():
            points = found.check(name).points
            typer.echo(
                f"Left out: {name} ({points:g} {'point' if points == 1 else 'points'}). {why}"
            )
    if any(result.outcome != "passed" for result in results):
        raise typer.Exit(1)


def _show(lab: manifest.Lab, results: list[CheckResult], seed: int, *, short: bool = False) -> None:
    """What failed, then the table, so that the table is what stands at the bottom."""
    console = plain_console()
    for story in failures.stories(lab, results):
        console.print(story.text(short), markup=False, soft_wrap=True)
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
    if words := failures.advice(lab, results):
        console.print(words, markup=False)
    for paragraph in failures.afterwards(lab, results):
        console.print(f"\n{paragraph}", markup=False)


@app.command(epilog="Example: `streamlab watch 02`, in a terminal beside your editor")
def watch(lab: LabArgument = None) -> None:
    """Check your program each time you save it, and show the first check that fails.

    Keys: h shows a hint, l lists the checks, e shows the whole evidence, a runs all checks, q ends.
    """
    from streamlab.labs.watch import watch as watch_lab

    watch_lab(manifest.find_lab(lab))


@app.command(epilog="Example: `streamlab hint 02`, and again for one more")
def hint(lab: LabArgument = None) -> None:
    """Show the next hint for the first check that you have not passed."""
    typer.echo(next_hint(manifest.find_lab(lab)))


@app.command(epilog="Example: `streamlab reset 02`")
def reset(lab: LabArgument = None) -> None:
    """Put the stub back in place of your program, and keep a copy of it."""
    found = manifest.find_lab(lab)
    for copy in reset_lab(found):
        typer.echo(f"kept a copy: {copy}")
    typer.echo(f"{', '.join(found.programs)}: back to the stub")


@app.command(epilog="Examples: `streamlab progress` · `streamlab progress --share-guesses`")
def progress(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    share_guesses: Annotated[
        bool,
        typer.Option(
            "--share-guesses",
            help=f"Write your guesses, without your name, into {shared_guesses.FILE}: to be handed "
            "in beside your program.",
        ),
    ] = False,
) -> None:
    """Show all labs at a glance, by the last run of all checks, and the guesses of chapters.

    Your guesses stay with you. To show your class where its guesses were off, add --share-guesses.
    """
    rows = [(each, last_results(each)) for each in manifest.all_labs()]
    points = {each.name: sum(r.points for r in results) for each, results in rows}
    guessed = chapters(manifest.work_folder())
    if share_guesses:
        _share(guessed)
    if as_json:
        labs = [
            {"lab": each.name, "points": points[each.name], "max_points": each.points}
            for each, _ in rows
        ]
        summary = {"labs": labs, "chapters": [asdict(each) for each in guessed]}
        typer.echo(json.dumps(summary, indent=2))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for each, results in rows:
        share = points[each.name] / each.points
        bar = "█" * round(12 * share) + "░" * (12 - round(12 * share))
        state = f"{points[each.name]:g} of {each.points:g}" if results else "not checked yet"
        table.add_row(each.number, each.title, bar, state)
    plain_console().print(table)
    for chapter in guessed:
        typer.echo(chapter.told)


def _share(guessed: list[Chapter]) -> None:
    """Share guesses on request: in the folder of the lab that we are in, or else for all labs."""
    here = Path.cwd()
    lab = next((each for each in (here, *here.parents) if (each / "lab.toml").is_file()), None)
    file, shared = shared_guesses.share(guessed, lab or manifest.work_folder())
    count = len(shared.guesses)
    typer.echo(
        f"{file}: {count} {'guess' if count == 1 else 'guesses'}, without your name. Hand it in "
        "beside your program. If you do not, nothing is shared. Whoever gets your program can see "
        "whose file it is; the page on the class names nobody.",
        err=True,
    )


@app.command(epilog="Example: `streamlab workspace`; `make lab` does it too")
def workspace() -> None:
    """Make `workspace/`, which is yours to work in, or bring to it what is new in the course.

    Nothing that you have changed is overwritten, and nothing is deleted. A new version of a file
    that you have changed lies beside it. Of a file that you have deleted you get a new copy.
    """
    from streamlab.handout.workspace import lay_out

    course = manifest.course_folder()
    for line in lay_out(course, course / manifest.WORKSPACE):
        typer.echo(line)


app.command(epilog="Example: `streamlab probe http://127.0.0.1:8000/big.bin --pid 1234 --curl`")(
    probe
)
app.command(
    epilog="Examples: `streamlab collect handed-in/ --roster roster.csv --dry-run` · "
    "`streamlab collect handed-in/ --roster roster.csv --lab 02 --out class-02/`"
)(collect)
app.command(epilog="Example: `streamlab grade handed-in/ --lab 02 --roster roster.csv --out r02/`")(
    grade
)


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
    from streamlab.grading.collected import unclaimed
    from streamlab.grading.export.formats import export as bring
    from streamlab.grading.export.job import Job
    from streamlab.grading.run import marks_of

    marks, students = marks_of(report)
    lab = manifest.find_lab(marks[0].lab if marks else None, of_course=True)
    job = Job(
        *(lab, marks, out, template),
        students=students,
        column=column,
        zero_for_missing=zero_for_missing,
        unclaimed=unclaimed(report),
    )
    exported = bring(to, job)
    for message in exported.messages:
        typer.echo(message, err=True)
    typer.echo(f"{exported.target}: {exported.filled} of {len(marks)}")


@app.command(epilog="Example: `streamlab release week3.zip --lab 02 --lab 03`")
def release(
    target: Annotated[Path, typer.Argument(help="The zip file to write.")],
    lab: Annotated[
        list[str] | None, typer.Option(help="A lab to give out, by number. Default: all.")
    ] = None,
    platform: Annotated[
        str,
        typer.Option(
            "--for", help="The platform that runs the checks: gradescope or github-classroom."
        ),
    ] = "",
) -> None:
    """Make the archive that students get: chapters and labs, no solutions."""
    from streamlab.grading.release import release as write_archive

    for name in write_archive(manifest.course_folder(), target, lab or (), platform):
        typer.echo(name)
    then = {
        "gradescope": "upload it as the assignment's autograder",
        "github-classroom": "unpack it into the assignment's template repository",
    }
    typer.echo(f"{target}: {then.get(platform, 'unpack it, then `make lab`')}")


dev = typer.Typer(
    help="For those who change the course: run these in a clone of it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(dev, name="dev")


@dev.command("check", epilog="Examples: `streamlab dev check 02 --fast` · `streamlab dev check`")
def dev_check(
    lab: Annotated[
        str | None,
        typer.Argument(
            metavar="LAB", help="A lab's number. Default: the lab whose folder you are in, or all."
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Leave out what starts servers: a second in all.")
    ] = False,
) -> None:
    """Say whether a lab is complete, and what to do where it is not.

    It starts the stub and the solution. The wrong and right answers are run by
    `pytest tests/checks/test_corpora.py -k NN-`. Exit status 1 if something is missing.
    """
    from streamlab.dev.complete import examine
    from streamlab.dev.draft import drafts

    lacking = 0
    for draft in drafts(lab):
        typer.echo(f"solutions/{draft.name}")
        for finding in examine(draft, fast):
            typer.echo(finding.line)
            lacking += bool(finding.defects)
    if lacking:
        raise typer.Exit(1)


@dev.command("new-lab", epilog="Example: `streamlab dev new-lab 10 compression`")
def dev_new_lab(
    number: Annotated[str, typer.Argument(help="Its number: two digits.")],
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits, underscores.")],
) -> None:
    """Begin a lab that is complete and small. It overwrites nothing."""
    from streamlab.dev.draft import clone
    from streamlab.dev.new_lab import new_lab

    for path in new_lab(clone(), number, name):
        typer.echo(path)
    typer.echo(
        f"Next: change them, then `streamlab dev check {number}`. `make labs` runs its notebooks."
    )


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
        nowhere = error.errno == errno.ENOENT and error.filename is None  # as tempfile says it
        if error.errno not in UNWRITABLE and not nowhere:
            raise
        what = error.filename or "a file"
        typer.echo(f"streamlab: can't write {what}: {reason_of(error)}", err=True)
        raise SystemExit(2) from None
