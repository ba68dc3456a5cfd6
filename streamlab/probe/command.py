"""The command `streamlab probe`. What it needs is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamlab.errors import ProbeError
from streamlab.files import parse_size

if TYPE_CHECKING:
    from streamlab.probe.run import ProbeResult, Wish

MARKS = {"good": "[green]ok[/]", "bad": "[red]no[/]", "open": "[yellow]--[/]"}


def probe(
    url: Annotated[str, typer.Argument(help="A file that your server serves on this machine.")],
    pid: Annotated[
        int | None, typer.Option(help="The server's main process. Default: seen from outside.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Ask this question alone, by id. Default: all.")
    ] = None,
    clients: Annotated[int, typer.Option(min=3, max=200, help="Most clients at once.")] = 30,
    most_bytes: Annotated[str, typer.Option("--bytes", help="Most bytes to read.")] = "8 GiB",
    seconds: Annotated[float, typer.Option(min=1, help="Most seconds to take.")] = 120,
    connections: Annotated[int, typer.Option(min=1, help="Most connections to open.")] = 150,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for an answer's next byte.")
    ] = 10,
    own_host: Annotated[
        bool,
        typer.Option("--i-own-this-host", help="Allow another machine: 4 clients at most come."),
    ] = False,
    curl: Annotated[bool, typer.Option("--curl", help="Show how to repeat it by hand.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    page: Annotated[Path | None, typer.Option(help="Write a page (HTML) to this file.")] = None,
) -> None:
    """Measure a server of your own: memory with waiting clients, what they leave, framing, ranges.

    It sends GET and HEAD alone. Questions: growth, backpressure, leaving, framing, ranges, head,
    first-byte. Exit status 1 if one of them finds something wrong.
    """
    from streamlab.probe.client import Budget
    from streamlab.probe.judge import QUESTIONS
    from streamlab.probe.load import Plan
    from streamlab.probe.report import as_json as to_json
    from streamlab.probe.report import as_page
    from streamlab.probe.run import Wish
    from streamlab.probe.target import find

    if unknown := set(only or ()) - set(QUESTIONS):
        raise ProbeError(
            f"there is no question {min(unknown)!r}: it is one of {', '.join(QUESTIONS)}"
        )
    target = find(url, pid, own_host=own_host)
    budget = Budget(parse_size(most_bytes), seconds, connections, patience)
    plan = Plan(tuple(sorted({1, max(2, clients // 3), clients})))
    try:
        found = _ask(target, budget, Wish(tuple(only or QUESTIONS), plan))
    except KeyboardInterrupt:
        typer.echo("streamlab: stopped, all connections are closed", err=True)
        raise typer.Exit(130) from None
    if page is not None:
        page.write_text(as_page(found), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2))
    else:
        _show(found, curl)
    if page is not None:
        typer.echo(f"written: {page}", err=True)
    if found.bad:
        raise typer.Exit(1)


def _ask(target: object, budget: object, wish: Wish) -> ProbeResult:
    from rich.console import Console

    from streamlab.probe.run import examine

    with Console(stderr=True).status("looking") as status:
        return examine(target, budget, wish, doing=lambda what: status.update(f"{what} ..."))  # type: ignore[arg-type]


def _show(found: ProbeResult, curl: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from streamlab.files import size_text

    console = Console(highlight=False, emoji=False)
    who = f"process {found.pid} and its children" if found.pid else "seen from outside alone"
    title = f"{found.url}: {size_text(found.file_size)}, {who}"
    console.print(title, markup=False, soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in found.rows:
        text, live = escape(row.verdict.text), escape(row.verdict.live)
        told = f"{text}\n[dim]{live}[/]" if live else text
        table.add_row(MARKS[row.outcome], escape(row.question), told)
    console.print(table)
    for note in found.notes:
        console.print(note, markup=False, soft_wrap=True)
    if curl:
        for row in found.rows:
            console.print(f"\n{row.question}\n  {row.curl}", markup=False, soft_wrap=True)
