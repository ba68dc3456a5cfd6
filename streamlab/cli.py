"""The `streamlab` command."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import streamlab
from streamlab.errors import StreamlabError

app = typer.Typer(
    help="Pour the River Through a Cup: tools for the course.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


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
            table.add_row(mark, finding.name, finding.detail)
        Console().print(table)
    if any(finding.vital and not finding.ok for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; an error of the library is one line and exit status 2."""
    try:
        app()
    except StreamlabError as error:
        typer.echo(f"streamlab: {error}", err=True)
        raise SystemExit(2) from None
