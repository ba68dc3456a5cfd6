"""The commands `streamlab collect` and `streamlab grade`.

What they need is imported when they run, so that the other commands start at once.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamlab.labs import manifest

RosterOption = Annotated[
    Path,
    typer.Option(
        help="CSV file of the class: as a learning platform exports it, or with a column "
        "`student` of ids and one `name`."
    ),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(help="CSV file with the columns `file` and `student`, for what is in doubt."),
]


def collect(
    submissions: Annotated[
        Path, typer.Argument(help="Folder of what a platform handed out, or one for each student.")
    ],
    roster: RosterOption,
    lab: Annotated[
        str, typer.Option(help="The lab's number. Without it no program is looked for.")
    ] = "",
    mapping: MappingOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show who gets what.")] = False,
    out: Annotated[Path | None, typer.Option(help="A new folder for the class.")] = None,
) -> None:
    """Show who gets which file and why, and lay the programs of the class into a folder.

    What is in doubt is named, and nobody gets it. `streamlab grade` sorts a folder in the same way.
    Exit status 1 if something is in doubt.
    """
    from streamlab.grading import collect as collecting
    from streamlab.grading.roster import read_roster
    from streamlab.grading.task import GradingError

    if not dry_run and not (lab and out):
        raise GradingError("say what to do: --dry-run shows it, --lab and --out lay a folder")
    found = manifest.find_lab(lab, of_course=True) if lab else None
    students = read_roster(roster)
    collection = collecting.collect(submissions, found, students, mapping)
    console = Console(highlight=False, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "who", "file", "why"):
        table.add_column(heading, overflow="fold")
    for row in collection.rows:
        who = f"{row.student} ({row.name})" if row.name else row.student
        why = "; ".join(filter(None, (row.why, row.notes)))
        cells = map(escape, (row.state, who, row.program or row.file, why))
        table.add_row(*cells, style="yellow" if row.state == "in doubt" else None)
    console.print(table)
    states = Counter(row.state for row in collection.rows)
    console.print(", ".join(f"{count} {state}" for state, count in states.most_common()))
    if not dry_run and found is not None and out is not None:
        count = collecting.lay_out(collection, found, out)
        laid = f"{out}: programs of {count} of {len(students)} students"
        console.print(laid, markup=False, soft_wrap=True)
    if collection.unmatched:
        typer.echo(
            "In doubt: say whose it is in a CSV file with the headings file,student", err=True
        )
        raise typer.Exit(1)


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
    mapping: MappingOption = None,
    show_seed: Annotated[
        bool, typer.Option("--show-seed", help="Tell students the seed, to draw the same files.")
    ] = False,
    student: Annotated[
        list[str] | None, typer.Option(help="Grade this student again, by id, and nobody else.")
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Run this check again, by id, and no other.")
    ] = None,
    due: Annotated[
        str, typer.Option(help="The deadline, such as `2026-11-20T23:59` or with `+01:00` behind.")
    ] = "",
    late_penalty: Annotated[
        float, typer.Option(help="Percent of the points to take off for each day that has begun.")
    ] = 0,
    grace: Annotated[float, typer.Option(help="Minutes after the deadline that are free.")] = 0,
    late_most: Annotated[
        float, typer.Option(help="The most that being late takes off, in percent.")
    ] = 100,
    times: Annotated[
        Path | None,
        typer.Option(help="CSV file with the columns `student` and `handed_in`."),
    ] = None,
) -> None:
    """Grade what a class handed in for a lab, each submission in a sandbox of its own.

    Interrupted and started again, it goes on where it stopped. Exit status 1 if somebody's
    submission could not be graded for a fault of the grader.
    """
    from streamlab.grading.run import ClassWork, grade_class
    from streamlab.grading.task import GradingError
    from streamlab.grading.times import deadline

    if not due and (late_penalty or grace or late_most != 100 or times is not None):
        raise GradingError("say when the lab was due: --due 2026-11-20T23:59")
    when = deadline(due, late_penalty, grace, late_most) if due else None
    found = manifest.find_lab(lab, of_course=True)
    work = ClassWork(
        *(submissions, found, roster, out, mapping, seed, unsafe, show_seed),
        deadline=when,
        times=times,
        only_students=student or (),
        only_checks=check or (),
    )
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
                work,
                jobs=jobs,
                scheduler=scheduler,
                told=lambda done, total, _: bar.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            bar.stop()
            typer.echo(
                "interrupted: whoever was finished is kept; the same command goes on", err=True
            )
            raise typer.Exit(130) from None
    console = Console(highlight=False, emoji=False)
    outcomes = Counter(mark.outcome for mark in report.marks)
    for outcome, count in outcomes.most_common():
        console.print(f"{count:>4}  {outcome.replace('_', ' ')}")
    if when is not None:
        console.print(f"due {when.shown}; late days: {when.rule}", markup=False, soft_wrap=True)
    for mark in report.marks:
        if mark.late is not None and mark.late.unknown:
            console.print(f"{mark.student}: {mark.late.unknown}", markup=False, soft_wrap=True)
    for who in report.left:
        console.print(f"{who}: a new submission lies there, and was not graded", markup=False)
    for name in report.unmatched:
        console.print(f"in doubt: {name}", markup=False, soft_wrap=True)
    console.print(f"{out / 'gradebook.csv'} · {out / 'class.html'}", markup=False, soft_wrap=True)
    if outcomes["grader_fault"]:
        raise typer.Exit(1)
