"""Generate labs/ from solutions/, and run the notebooks of both: what `make labs` does.

    python tools/make_labs.py [NAME ...]     (default: all)

An edited program in labs/ is kept as a copy, in .streamlab/kept of its folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import save_notebooks

from streamlab.labs.generate import generate
from streamlab.labs.manifest import Lab
from streamlab.labs.progress import reset

HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    """Generate the labs that the command line names, or all."""
    solutions = sorted(path for path in (HERE / "solutions").iterdir() if path.is_dir())
    for solution in solutions:
        if not sys.argv[1:] or solution.name in sys.argv[1:]:
            make(solution)


def make(solution: Path) -> None:
    """Generate one lab; its notebook shows no attempt, that of the solution a full pass."""
    target = HERE / "labs" / solution.name
    if (target / ".stub").is_dir():
        for copy in reset(Lab(target)):
            print(f"kept a copy: {copy.relative_to(HERE)}")
    save_notebooks.save(solution / "lab.ipynb")
    generate(solution, target)
    save_notebooks.save(target / "lab.ipynb")
    print(f"labs/{solution.name}", flush=True)


if __name__ == "__main__":
    main()
