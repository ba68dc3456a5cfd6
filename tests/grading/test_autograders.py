"""The archives for platforms that run the checks themselves, and what these run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamlab.grading.release import TOP, release
from streamlab.grading.task import GradingError
from streamlab.labs.manifest import Lab

COURSE = Path(__file__).resolve().parents[2]
SOLUTION = COURSE / "solutions" / "01_load_all_bug" / "predict.py"
LAB = Lab(COURSE / "solutions" / "02_chunked_loop")

pytestmark = pytest.mark.skipif(
    not (COURSE / ".git").exists(), reason="an archive is made from a git checkout"
)


@pytest.fixture
def gradescope(tmp_path: Path) -> Path:
    """The folders of Gradescope's container, with the autograder of lab 01 unpacked."""
    release(COURSE, tmp_path / "autograder.zip", ["1"], "gradescope")
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        archive.extractall(tmp_path / "source")
    (tmp_path / "submission").mkdir()
    return tmp_path


def results(gradescope: Path) -> dict[str, Any]:
    """What `run_autograder` writes, with the environment of this course."""
    environment = {
        **os.environ,
        "AUTOGRADER": str(gradescope),
        "PROGRAMS": str(Path(sys.executable).parent),
        "PYTHONPATH": str(gradescope / "source" / TOP),
    }
    command = ["sh", str(gradescope / "source" / "run_autograder")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, Any] = json.loads((gradescope / "results" / "results.json").read_text())
    return found


@pytest.mark.needs("linux")
def test_gradescope_shows_the_points_of_each_check(gradescope: Path) -> None:
    (gradescope / "submission" / "predict.py").write_bytes(SOLUTION.read_bytes())
    found = results(gradescope)
    assert found["score"] == 12
    assert [(each["score"], each["status"]) for each in found["tests"]] == [(3, "passed")] * 4


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("name", "said"), [("notes.txt", "no predict.py"), ("predict.py", "still the stub")]
)
def test_gradescope_says_why_nothing_was_run(gradescope: Path, name: str, said: str) -> None:
    stub = gradescope / "source" / TOP / "labs" / "01_load_all_bug" / "predict.py"
    (gradescope / "submission" / name).write_bytes(stub.read_bytes())
    found = results(gradescope)
    assert found["score"] == 0
    assert said in found["output"]


def test_an_autograder_of_gradescope_is_for_one_lab(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="for one lab: name it, as in --lab 02"):
        release(COURSE, tmp_path / "all.zip", platform="gradescope")


def test_an_unknown_platform_is_told(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="there are gradescope, github-classroom"):
        release(COURSE, tmp_path / "all.zip", platform="moodle")
    assert not (tmp_path / "all.zip").exists()


def test_github_classroom_gives_the_points_of_each_check(tmp_path: Path) -> None:
    release(COURSE, tmp_path / "lab.zip", ["02"], "github-classroom")
    with zipfile.ZipFile(tmp_path / "lab.zip") as archive:
        workflow = yaml.safe_load(archive.read(f"{TOP}/.github/workflows/classroom.yml"))
        ignored = archive.read(f"{TOP}/.gitignore").decode()
    assert "workspace" not in ignored
    steps = workflow["jobs"]["check"]["steps"]
    points = {
        step["with"]["command"].split()[-1]: step["with"]["max-score"]
        for step in steps
        if "max-score" in step.get("with", {})
    }
    assert points == {check.id: check.points for check in LAB.checks}
    reporter = steps[-1]
    graders = [step["id"] for step in steps if step.get("id")]
    assert reporter["with"]["runners"].split(",") == graders
    assert reporter["env"] == {
        f"{name.upper()}_RESULTS": f"${{{{ steps.{name}.outputs.result }}}}" for name in graders
    }
