"""What outsiders see first: issue forms, workflows, and how to cite the course."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import streamlab

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FIELDS = {"input", "textarea", "dropdown", "checkboxes", "markdown"}
"""https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests"""


def form_problems(form: dict[str, Any]) -> list[str]:
    """What an issue form lacks, a line each."""
    found = [f"no {key}" for key in ("name", "description", "body") if not form.get(key)]
    ids = [field["id"] for field in form.get("body", []) if "id" in field]
    found += ["an id twice"] if len(ids) != len(set(ids)) else []
    for field in form.get("body", []):
        if field.get("type") not in FIELDS:
            found.append(f"unknown field {field.get('type')}")
        elif field["type"] == "markdown":
            found += [] if field["attributes"].get("value") else ["empty text"]
        elif not field.get("attributes", {}).get("label"):
            found.append(f"{field.get('id')} has no label")
    return found


def make_targets(text: str) -> set[str]:
    """The words after `make` in the commands of a workflow or a container."""
    commands = re.findall(r"\bmake ((?:[a-z-]+ ?)+)", text)
    return {target for command in commands for target in command.split()}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_complete(path: Path) -> None:
    assert form_problems(yaml.safe_load(path.read_text())) == []


def test_an_incomplete_form_is_seen() -> None:
    field = {"type": "text", "id": "a"}
    nameless = {"type": "input", "id": "a", "attributes": {}}
    problems = form_problems({"name": "a form", "body": [field, nameless]})
    assert problems == ["no description", "an id twice", "unknown field text", "a has no label"]


def test_workflows_and_containers_call_what_the_makefile_has() -> None:
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    container = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    for text in [container, *(path.read_text() for path in WORKFLOWS)]:
        called = make_targets(text)
        assert called
        assert called <= rules
    assert json.loads(container)["postCreateCommand"].startswith("make ")
    assert make_targets("run: make no-such-rule") - rules


def test_workflows_say_what_they_run_on_and_stop_in_time() -> None:
    assert WORKFLOWS
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        # YAML 1.1 reads the key `on` as true.
        assert workflow[True], path.name
        assert workflow["permissions"], path.name
        for name, job in workflow["jobs"].items():
            assert job["runs-on"], name
            assert job["timeout-minutes"] <= 60, name


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == streamlab.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
