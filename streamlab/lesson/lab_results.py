"""What a lab's checks found, as a table for a notebook."""

from __future__ import annotations

import html
import time
from collections.abc import Collection, Sequence
from typing import Any

from streamlab.labs.failures import Story, advice, afterwards, step_text, stories
from streamlab.labs.manifest import Lab, find_lab
from streamlab.labs.progress import remember
from streamlab.labs.results import CheckResult, Step
from streamlab.labs.runner import RunOptions, run_checks
from streamlab.lesson.verdicts import CELL, FAILS, HEAD, HOLDS, TABLE

# Results of a lab's checks

_OUTCOMES = {
    "passed": ("&#10003;", HOLDS),
    "not_attempted": ("&#8211;", "opacity:.65"),
    "failed": ("&#10007;", FAILS),
    "could_not_run": ("&#10007;", FAILS),
    "grader_fault": ("!", FAILS),
}


class Results:
    """The results of a lab's checks as a table; what failed is told in full below it.

    What a check left out on this machine stands in a live cell, so that a notebook's saved output
    is the same on machines with and without the tool.
    """

    def __init__(self, lab: Lab, results: Sequence[CheckResult]) -> None:
        self.lab = lab
        self.results = list(results)

    @property
    def points(self) -> float:
        return sum(result.points for result in self.results)

    def __repr__(self) -> str:
        return "\n".join([*self._lines(notes=True), *self._stories(), *self._after()])

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        plain = "\n".join([*self._lines(notes=False), *self._stories(), *self._after()])
        return {"text/plain": plain, "text/html": self._html()}

    def _lines(self, notes: bool) -> list[str]:
        rows = [
            (each.outcome.replace("_", " "), f"{each.points:g} of {each.max_points:g}", each.check)
            for each in self.results
        ]
        first = max((len(outcome) for outcome, _, _ in rows), default=0)
        lines = [
            f"{outcome:<{first}}   {points:>7}   {self.lab.check(name).title}"
            for outcome, points, name in rows
        ]
        total = f"{self.points:g} of {sum(r.max_points for r in self.results):g} points"
        return [*lines, f"{total}. {advice(self.lab, self.results, notes)}".rstrip()]

    def _stories(self) -> list[str]:
        return [f"\n{story.text()}" for story in stories(self.lab, self.results)]

    def _after(self) -> list[str]:
        return [f"\n{paragraph}" for paragraph in afterwards(self.lab, self.results)]

    def _html(self) -> str:
        rows = []
        for each in self.results:
            mark, style = _OUTCOMES[each.outcome]
            passed = each.outcome == "passed"
            live = f"{each.seconds:.1f} s {each.evidence}".rstrip() if passed else ""
            rows.append(
                f'<tr><td style="{CELL}">{html.escape(self.lab.check(each.check).title)}</td>'
                f'<td style="{CELL};{style};font-weight:600">{mark} '
                f"{each.outcome.replace('_', ' ')}</td>"
                f'<td style="{CELL}">{each.points:g} of {each.max_points:g}</td>'
                f'<td class="live" style="{CELL}">{html.escape(live)}</td></tr>'
            )
        heads = "".join(f'<th style="{HEAD}">{h}</th>' for h in ("", "", "points", "took"))
        told = "".join(map(_html_of, stories(self.lab, self.results)))
        told += "".join(f"<p>{html.escape(words)}</p>" for words in self._after())
        return (
            f'<table style="{TABLE}"><tr>{heads}</tr>{"".join(rows)}</table>'
            f"<p><b>{html.escape(self._lines(notes=False)[-1])}</b></p>{told}"
        )


_STORY = "border-left:4px solid #c0392b;padding-left:12px;margin:0 0 16px"
_PRE = "white-space:pre-wrap;overflow-wrap:break-word;word-break:normal"


def _html_of(story: Story) -> str:
    """A failure: the cause and what to look at in the open, the exchange folded."""
    opening = "".join(f"<p>{html.escape(words)}</p>" for words in story.opening)
    folded = [story.exchange, *story.by_hand, f"The same again: {story.again}"]
    exchange = html.escape("\n\n".join(filter(None, folded)))
    return (
        f'<div style="{_STORY}"><p><b>{html.escape(story.headline)}</b></p>{opening}'
        "<details><summary>What was sent, and what came back</summary>"
        f'<pre style="{_PRE}">{exchange}</pre></details></div>'
    )


def _somebody_looks() -> bool:
    """Whether this cell runs in JupyterLab, or in an editor that speaks to kernels like it.

    These say which cell they run (`cellId`). nbval and nbclient do not, and compare what a cell
    puts out.
    """
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    parent: dict[str, Any] = getattr(get_ipython(), "get_parent", dict)()
    return "cellId" in parent.get("metadata", {})


class _Progress:
    """How far the checks of a lab are, as a line in a notebook; nothing where nobody looks.

    When the checks have ended its output is cleared, so that nothing of it is saved.
    """

    def __init__(self, lab: Lab, total: int) -> None:
        self.lab, self.total, self.done = lab, total, 0
        self.began = time.monotonic()
        self.handle: Any = None
        if _somebody_looks():
            from IPython.display import display

            self.handle = display(_Line(""), display_id=True)

    def told(self, _: CheckResult) -> None:
        self.done += 1

    def doing(self, step: Step) -> None:
        if self.handle is not None:
            seconds = time.monotonic() - self.began
            now = step_text(self.lab, step)
            self.handle.update(_Line(f"{self.done} of {self.total} checks, {seconds:.0f} s. {now}"))

    def end(self) -> None:
        if self.handle is not None:
            from IPython.display import clear_output

            clear_output(wait=True)


class _Line:
    """A line of text for a notebook."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def check(
    which: str | None = None, *, only: Collection[str] | None = None, seed: int | None = None
) -> Results:
    """Run the checks of a lab (the one whose folder we are in) and show the results as a table.

    `only` names checks by id; `seed` repeats an earlier run. This is for notebooks; the terminal
    has `streamlab check`.
    """
    lab = find_lab(which)
    progress = _Progress(lab, len(lab.checks) if only is None else len(only))
    try:
        options = RunOptions(seed=seed)
        results = run_checks(
            lab, only=only, told=progress.told, doing=progress.doing, options=options
        )
    finally:
        progress.end()
    remember(lab, results, whole=only is None)
    return Results(lab, results)
