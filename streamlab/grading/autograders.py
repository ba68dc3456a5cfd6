"""What Gradescope and GitHub Classroom need to run a lab's checks on what a student hands in.

Gradescope builds an image from a zip file with `setup.sh` and `run_autograder` at its top
(https://gradescope-autograders.readthedocs.io/en/latest/specs/). GitHub Classroom runs the workflow
`classroom.yml` of the assignment's repository, in which each test is a step with its points
(https://docs.github.com/en/education/manage-coursework-with-github-classroom/teach-with-github-classroom/use-autograding).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml

from streamlab.labs.manifest import Lab

MINUTES = 10
"""The longest that one check may take at GitHub Classroom, with a machine that is slow."""

_TEMPLATES = resources.files("streamlab.grading") / "templates" / "gradescope"
_ACTIONS = "classroom-resources/autograding"
_ABOUT = """\
# GitHub Classroom runs this when a student pushes, and shows the points. A student can change the
# checks in the repository, so these points tell the student where they are. For marks, collect the
# programs and grade them yourself.
"""


def gradescope_files(lab: Lab) -> dict[str, bytes]:
    """The files at the top of Gradescope's zip file, by name, for one lab."""
    texts = {file.name: file.read_text(encoding="utf-8") for file in _TEMPLATES.iterdir()}
    return {name: text.replace("@LAB@", lab.number).encode() for name, text in texts.items()}


def classroom_workflow(labs: Sequence[Lab]) -> bytes:
    """GitHub Classroom's workflow, in YAML: a step for each check of the labs, with its points."""
    graders = [step for lab in labs for step in _steps(lab)]
    names = [step["id"] for step in graders]
    reported = {
        f"{name.upper()}_RESULTS": f"${{{{ steps.{name}.outputs.result }}}}" for name in names
    }
    workflow: dict[str, Any] = {
        "name": "Autograding Tests",
        "on": ["push", "workflow_dispatch"],
        "permissions": {"checks": "write", "actions": "read", "contents": "read"},
        "jobs": {
            "check": {
                "runs-on": "ubuntu-24.04",
                "if": "github.actor != 'github-classroom[bot]'",
                "timeout-minutes": 60,
                "steps": [
                    {"uses": "actions/checkout@v4"},
                    {"run": "make for-lab environment"},
                    *graders,
                    {
                        "name": "Report the points",
                        "uses": f"{_ACTIONS}-grading-reporter@v1",
                        "env": reported,
                        "with": {"runners": ",".join(names)},
                    },
                ],
            }
        },
    }
    text: str = yaml.safe_dump(workflow, sort_keys=False, width=1000)
    return (_ABOUT + text).encode()


def _steps(lab: Lab) -> list[dict[str, Any]]:
    return [
        {
            "name": f"Lab {lab.number}, {check.title}",
            "id": f"lab{lab.number}_{check.id}",
            "uses": f"{_ACTIONS}-command-grader@v1",
            "with": {
                "test-name": f"Lab {lab.number}, {check.title}",
                "command": f".venv/bin/streamlab check {lab.number} --only {check.id}",
                "timeout": MINUTES,
                "max-score": check.points,
            },
        }
        for check in lab.checks
    ]
