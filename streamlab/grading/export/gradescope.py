"""Marks for Gradescope: a results.json for each student."""

from __future__ import annotations

import json
from typing import Any

from streamlab.files import reason_of
from streamlab.grading.export.job import (
    BridgeError,
    Exported,
    Job,
    instructors_lines,
    open_messages,
    points_text,
    title_of,
)
from streamlab.grading.records import Mark
from streamlab.grading.text import file_name, number, visible, write_text

# Gradescope


def to_gradescope(job: Job) -> Exported:
    """Write `STUDENT/results.json` for each student who has points, in the folder that is named.

    The form is that of "Autograder Specifications", "Output format"
    (https://gradescope-autograders.readthedocs.io/en/latest/specs/). A `run_autograder` copies the
    student's file to `/autograder/results/results.json`. The maximum of an assignment is set in
    Gradescope itself; a file has one for each test only. Who has no points has no file, so that
    Gradescope shows that nothing was graded; a file of an earlier export is taken away.
    """
    filled = 0
    for mark in job.marks:
        file = job.target / file_name(mark.student) / "results.json"
        points = job.points(mark)
        if points is None:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise BridgeError(f"could not remove {file}: {reason_of(error)}") from error
            continue
        text = json.dumps(_results_json(job, mark, points), ensure_ascii=False, indent=2)
        write_text(file, text + "\n")
        filled += 1
    messages = open_messages(job, job.marks, "so that there is no results.json")
    return Exported(job.target, filled, messages)


def _results_json(job: Job, mark: Mark, points: float) -> dict[str, Any]:
    tests = []
    for each in mark.results:
        parts = [each.evidence.strip(), job.lab.cause_text(each.cause), each.curl]
        summary = "\n\n".join(part for part in parts if part) if each.outcome != "passed" else ""
        tests.append(
            {
                "name": title_of(job.lab, each),
                "name_format": "text",
                "score": each.points,
                "max_score": each.max_points,
                "status": "passed" if each.outcome == "passed" else "failed",
                "output": visible(summary),
                "output_format": "text",
                "visibility": "visible",
            }
        )
    outcome = {
        "graded": f"{number(points)} of {points_text(mark.max_points)}.",
        "not_attempted": "What was handed in is still the stub.",
        "could_not_run": "The program did not run.",
        "missing": "Nothing was handed in.",
    }
    return {
        "score": points,
        "execution_time": mark.seconds,
        "output": visible("\n".join([outcome[mark.outcome], *instructors_lines(job.lab, mark)])),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"lab": mark.lab, "submission": mark.submission},
    }
