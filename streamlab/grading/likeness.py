"""Which programs of a class are the same, or nearly, where names and comments do not count.

Programs are folded: comments, blank lines, docstrings, annotations and the names that a program
chooses are left out, and so is what the lab's stub has. What remains is cut into runs of three
statements, as fingerprints of texts are (Schleimer, Wilkerson and Aiken, "Winnowing: Local
Algorithms for Document Fingerprinting", 2003, section 2). It says what is equal, and not why.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from streamlab.grading.collect import Collection
from streamlab.labs.grammar import SHORT
from streamlab.labs.manifest import STUBS, Lab

RUN = 3
"""How many statements are compared at once."""
LEAST = 20
"""Programs with fewer runs of their own are not compared: small ones are equal by themselves."""
NEARLY = 0.8
"""The share of runs that two programs have in common, of all that either has."""
MOST_COMPARED = 400
"""Of more different programs it is told only which are equal: pairs grow with the square."""

_CHOSEN = "_"
_BUILTIN = frozenset(dir(builtins))


@dataclass(frozen=True)
class Likeness:
    """Students with one program."""

    program: str
    students: tuple[str, ...]
    """By id."""
    share: float = 1.0
    """What is the same, from `NEARLY` to 1; 1 where nothing else than names differs."""


@dataclass(frozen=True)
class Folded:
    """A program without what its author chose freely."""

    sha256: str
    """Of all that remains."""
    runs: frozenset[bytes]
    """The runs of statements that the stub has not."""


def likenesses(lab: Lab, collection: Collection) -> list[Likeness]:
    """Who of a class handed in the same program, or nearly; the most alike first.

    Not named are those who handed in one file together, programs with little of their own, and the
    stub. A program above `SHORT` bytes, or that is no Python, is compared byte by byte.
    """
    found: list[Likeness] = []
    together = _together(collection)
    for name in lab.programs:
        stub = lab.folder / STUBS / name
        begins = fold(stub.read_bytes()) if stub.is_file() else None
        left_out = begins.runs if begins is not None else frozenset()
        groups: dict[str, list[str]] = defaultdict(list)
        folded: dict[str, Folded] = {}
        for who, submission in collection.submissions.items():
            content = submission.programs.get(name)
            if content is None or not lab.attempted_text(name, content.decode("utf-8", "replace")):
                continue
            one = fold(content, left_out)
            if one is None:
                key = hashlib.sha256(content).hexdigest()
            elif len(one.runs) >= LEAST:
                key = one.sha256
                folded[key] = one
            else:
                continue
            groups[key].append(who)
        found += [
            Likeness(name, tuple(them))
            for them in groups.values()
            if any(pair not in together for pair in combinations(sorted(them), 2))
        ]
        if len(folded) <= MOST_COMPARED:
            found += _near(name, folded, groups)
    return sorted(found, key=lambda each: (-each.share, each.program, each.students))


def _near(
    name: str, folded: Mapping[str, Folded], groups: Mapping[str, list[str]]
) -> Iterable[Likeness]:
    for (one, first), (other, second) in combinations(folded.items(), 2):
        shared = len(first.runs & second.runs)
        share = shared / (len(first.runs) + len(second.runs) - shared)
        if share >= NEARLY:
            yield Likeness(name, (*groups[one], *groups[other]), min(share, 0.99))


def _together(collection: Collection) -> set[tuple[str, str]]:
    """Those who got the same file of the folder, as a group does, as pairs in order."""
    owners: dict[str, set[str]] = defaultdict(set)
    for row in collection.rows:
        if row.state == "taken":
            owners[row.file].add(row.student)
    return {pair for them in owners.values() for pair in combinations(sorted(them), 2)}


def fold(content: bytes, left_out: frozenset[bytes] = frozenset()) -> Folded | None:
    """A program, folded, without runs that are `left_out`; None for a long one, or no Python."""
    if len(content) > SHORT:
        return None
    try:
        tree = ast.parse(content)
        folder = _Folder(tree)
        folder.visit(tree)
        statements = list(_statements(tree.body))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    starts = range(max(1, len(statements) - RUN + 1))
    runs = frozenset(_hash(statements[at : at + RUN]).digest() for at in starts)
    return Folded(_hash(statements).hexdigest(), runs - left_out)


def _hash(statements: Iterable[str]) -> hashlib._Hash:
    return hashlib.sha256("\n".join(statements).encode("utf-8", "replace"))


def _statements(body: Iterable[ast.stmt]) -> Iterable[str]:
    """Every statement of a folded program in its order, a compound one by its first line."""
    for node in body:
        blocks = [
            (field, getattr(node, field))
            for field in ("body", "handlers", "orelse", "finalbody", "cases")
            if getattr(node, field, None)
        ]
        for field, _ in blocks:
            setattr(node, field, [])
        yield ast.dump(node)
        for field, inner in blocks:
            yield field
            yield from _statements(inner)


class _Folder(ast.NodeTransformer):
    """Takes out of a program what its author is free to choose."""

    def __init__(self, tree: ast.AST) -> None:
        self.own: set[str] = set()
        """What it defines, as functions, classes and attributes."""
        self.parameters: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.own.add(node.name)
            elif isinstance(node, ast.arg):
                self.parameters.add(node.arg)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                self.own.add(node.attr)

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Name():
                node.id = node.id if node.id in _BUILTIN else _CHOSEN
            case ast.Attribute() if node.attr in self.own:
                node.attr = _CHOSEN
            case ast.arg():
                node.arg, node.annotation = _CHOSEN, None
            case ast.keyword() if node.arg in self.parameters:
                node.arg = _CHOSEN
            case ast.alias():
                node.asname = None
            case ast.ExceptHandler():
                node.name = None
            case ast.Global() | ast.Nonlocal():
                node.names = [_CHOSEN for _ in node.names]
            case ast.AnnAssign() if node.value is not None:
                return ast.Assign([node.target], node.value)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                node.name = _CHOSEN
                if not isinstance(node, ast.ClassDef):
                    node.returns = None
        body = getattr(node, "body", None)
        if isinstance(body, list) and not isinstance(node, ast.Lambda):
            bare = [each for each in body if not _is_text(each)]
            node.body = bare or [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a text that does nothing, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
