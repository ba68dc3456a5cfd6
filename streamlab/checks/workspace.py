"""Where a check runs the student's programs: limits, a folder of its own, logs that can be read.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamlab.checks import shims
from streamlab.checks.outcome import CouldNotRun, fail, waiting
from streamlab.errors import NotListening, ServerError
from streamlab.files import read_plain
from streamlab.labs import manifest
from streamlab.labs.failures import kept_environment
from streamlab.labs.manifest import Lab
from streamlab.labs.program import unreadable
from streamlab.process.program import AS_HERE, Conditions, Cup, Finished, run_program
from streamlab.process.sandbox import Sandbox, make_group
from streamlab.process.server import Server

OVERHEAD = 512
"""What a control group allows beyond the program's own memory, in MiB: it counts page cache too."""
PROCESSES = 128
"""How many processes and threads a sandboxed program may have where lab.toml does not say."""


Launch = Callable[..., Server]


@dataclass(frozen=True)
class Folders:
    """Where the files of a check lie."""

    scratch: Path
    """Holds what is gone after the check."""
    shut_in: Path | None = None
    """Where programs in a sandbox may write; None: they are not shut in."""
    group: Path | None = None
    """The control group that one for these programs is made in; None: they get none."""
    kept: Path | None = None
    """Where the files to serve stay after the check; None: they are in `scratch`."""


class LabWorkspace:
    """A copy of a lab's folder to run programs in, so that nothing they do to it is lost work.

    `folder` is that copy, `root` where the files to serve lie (what is beside it they can read, and
    should not), `outputs` where programs may write, and `private` what they have no business with.
    A lab whose lab.toml says `writes = true` has programs that write into `root`, and nowhere else.
    In a sandbox that is enforced; `broken` are programs known not to start, with what `CouldNotRun`
    says of each. `replaced` are files to run in place of the lab's programs, by their names.
    """

    def __init__(
        self,
        lab: Lab,
        replaced: dict[str, Path],
        folders: Folders,
        broken: dict[str, tuple[str, bool]] | None = None,
    ) -> None:
        scratch, shut_in = folders.scratch, folders.shut_in
        self.lab = lab
        self.folder = scratch / "desk"
        shutil.copytree(
            lab.folder,
            self.folder,
            ignore=shutil.ignore_patterns(
                manifest.MEMORY, manifest.STUBS, "test_lab.py", "__pycache__"
            ),
        )
        for name, path in replaced.items():
            shutil.copy2(path, self.folder / name)
        self.keep = folders.kept is not None
        writes = lab.manifest.get("writes", False)
        base = tempfile.mkdtemp(dir=(writes and shut_in) or scratch)
        self.root = folders.kept or Path(tempfile.mkdtemp(dir=base))
        self.private = Path(tempfile.mkdtemp(dir=scratch))
        self.outputs = Path(tempfile.mkdtemp(dir=shut_in or scratch))
        self.sandbox: Sandbox | None = None
        self._group: Path | None = None
        if shut_in is not None:
            if folders.group is not None:
                name, memory = f"check-{uuid.uuid4().hex}", Sandbox.memory_mib + OVERHEAD
                self._group = make_group(folders.group, name, memory, 2 * PROCESSES)
            self.sandbox = Sandbox(
                readable=(str(self.folder), str(self.root.parent)),
                writable=(str(self.root if writes else self.outputs),),
                nproc=lab.limits.nproc or PROCESSES,
                cgroup=str(self._group or ""),
            )
        self._broken = {} if broken is None else broken
        self._servers: list[Server] = []

    def program(self, name: str) -> Path:
        """The program to run; raises `CouldNotRun` for one that is missing or no Python."""
        file = self.folder / name
        if not file.is_file():
            raise CouldNotRun(f"there is no {name} in the lab's folder")
        if wrong := unreadable(file):
            raise CouldNotRun(wrong, cause="unreadable")
        return file

    @waiting("until the program says where it listens")
    def launch(
        self,
        name: str,
        *,
        cup: Cup | None = None,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Server:
        """Start a program as a server, in `cup` or the lab's own; other options as for `Server`.

        Raises `CouldNotRun` if that fails.
        """
        if name in self._broken:
            raise CouldNotRun(*self._broken[name])
        file = self.program(name)
        if self.keep:
            given = json.dumps(dict(environment or {}))
            kept_environment(self.root).write_text(given, encoding="utf-8")
        conditions = vars(self._conditions(Conditions(cup, environment or {})))
        server = Server(file, self.root, **{"probe": False, **options, **conditions})
        self._servers.append(server)
        try:
            return server.start()
        except ServerError as error:
            words = str(error).replace(str(self.folder) + "/", "")
            late = isinstance(error, NotListening)
            if server.exit_status is None and not late:
                raise  # what runs the program has failed, and not the program
            self._broken[name] = words, late
            raise CouldNotRun(words, late) from error

    @waiting("until the program has ended")
    def run(
        self,
        name: str,
        *arguments: str,
        conditions: Conditions = AS_HERE,
        timeout: float = 30.0,
        watch: Callable[[int], None] | None = None,
    ) -> Finished:
        """Run a program to its end, in the cup of `conditions` or the lab's own.

        `timeout` and `watch` are as for `run_program`.
        """
        command = [sys.executable, str(self.program(name)), *arguments]
        return run_program(command, self._conditions(conditions), timeout=timeout, watch=watch)

    def _conditions(self, given: Conditions) -> Conditions:
        """What a program runs in: what is given, and what the lab and the sandbox add to it."""
        # A limit on processes counts all those of this user, so it only makes sense in a sandbox.
        cup = given.cup or replace(self.lab.limits, nproc=None)
        sandbox = self.sandbox
        if sandbox is not None:
            cup = replace(
                cup,
                nofile=cup.nofile or 1024,
                cpu_s=cup.cpu_s or 60,
                fsize_mib=cup.fsize_mib or 512,
            )
            imported = given.environment.get("PYTHONPATH", "")
            readable = (*sandbox.readable, *filter(None, imported.split(os.pathsep)))
            # Several programs may run at once, and the checker writes beside them: each one may
            # change the folder that it runs in, and could else put a link where another one is due.
            writable = sandbox.writable if given.cwd is None else (str(given.cwd),)
            sandbox = replace(sandbox, readable=readable, writable=writable)
        return replace(given, cup=cup, cwd=given.cwd or self.folder, sandbox=sandbox)

    def call(self, name: str, function: str, *numbers: float) -> object:
        """What a function of a program returns, called in a process of its own.

        Arguments and result travel as JSON; what the program prints on the way is not the result.
        Raises `CheckFailed` when it raises, returns nothing that JSON can say, or takes too long.
        """
        self.program(name)
        caller = self.folder / f"call-{uuid.uuid4().hex}.py"
        answer = self.outputs / uuid.uuid4().hex
        shims.copy_of("call_function", caller)
        asked = f"Called {function}({', '.join(f'{number:_}' for number in numbers)})."
        arguments = (name.removesuffix(".py"), function, json.dumps(numbers), str(answer))
        finished = self.run(caller.name, *arguments, timeout=10)
        told = read_untrusted(answer, 4096)
        if told is None:
            words = finished.output.strip().splitlines()
            how = words[-1][:200] if words else f"it ended with status {finished.status}"
            how = "it had not returned after 10 s" if finished.status is None else how
            fail("raises", f"{asked} It returned nothing: {how}")
        try:
            result = json.loads(told)
            float(result if isinstance(result, int) else 0)  # none that has no place in a float
            if result not in (float("inf"), float("-inf")) and result == result:
                return result
        except (ValueError, RecursionError, OverflowError):
            pass
        return fail("raises", f"{asked} What it returned is no number: {told[:100]!r}")

    def logs(self) -> list[str]:
        """What its servers have written, of very much the beginning and the end."""
        return [server.log() for server in self._servers]

    def german(self) -> dict[str, str]:
        """Variables of the environment that make dates of this system German; none if it can't."""
        return german_dates(Path(tempfile.mkdtemp(dir=self.root.parent)))

    def close(self) -> None:
        """End all servers."""
        for server in self._servers:
            server.stop()
        if self.sandbox is not None:
            with suppress(RecursionError):  # folders in folders in folders
                shutil.rmtree(self.outputs, ignore_errors=True)
                shutil.rmtree(self.root, ignore_errors=True)
        if self._group is not None:
            with suppress(OSError):  # the kernel takes a moment to empty it; it costs nothing
                self._group.rmdir()


def german_dates(folder: Path) -> dict[str, str]:
    """Make a locale with German dates in a folder: the variables that choose it; none if it can't.

    A program notices when it asks for the system's language: `locale.setlocale`. Nothing but
    localedef is needed, no package with other locales. Source of both files' form: locale(5) and
    charmap(5).
    """
    (folder / "source").write_text(_GERMAN)
    (folder / "letters").write_text(_ASCII)
    command = ["localedef", "-c", "--no-archive", "-i", "source", "-f", "./letters"]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([*command, "./de_XX"], cwd=folder, capture_output=True, timeout=20)
    # It ends with status 1 for a mere warning: what counts is what it made.
    made = (folder / "de_XX" / "LC_TIME").is_file()
    return {"LOCPATH": str(folder), "LC_TIME": "de_XX"} if made else {}


_ASCII = "".join(
    (
        "<code_set_name> ANSI_X3.4-1968\n<escape_char> /\nCHARMAP\n",
        *(f"<U{number:04X}> /x{number:02x}\n" for number in range(128)),
        "END CHARMAP\n",
    )
)
"""The characters of ASCII, as localedef reads them."""

_GERMAN = """LC_TIME
abday "So";"Mo";"Di";"Mi";"Do";"Fr";"Sa"
day "Sonntag";"Montag";"Dienstag";"Mittwoch";"Donnerstag";"Freitag";"Samstag"
abmon "Jan";"Feb";"Mrz";"Apr";"Mai";"Jun";"Jul";"Aug";"Sep";"Okt";"Nov";"Dez"
mon "Januar";"Februar";"Maerz";"April";"Mai";"Juni";\
"Juli";"August";"September";"Oktober";"November";"Dezember"
d_t_fmt "%a %d %b %Y %T"
d_fmt "%d.%m.%Y"
t_fmt "%T"
am_pm "";""
t_fmt_ampm ""
week 7;19971130;4
END LC_TIME
"""
"""The dates of Germany, in ASCII; localedef warns that everything else is missing."""


def files_below(folder: Path, most: int = 10_000) -> list[Path]:
    """What a program left in a folder, files and folders; of very much, the first `most`.

    No link is followed, and what lies too deep for a path is left out.
    """
    found: list[Path] = []
    waiting = [folder]
    while waiting and len(found) < most:
        with suppress(OSError):  # removed since it was listed, or too deep
            here = waiting.pop()
            for entry in os.scandir(here):
                found.append(here / entry.name)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(found[-1])
    return found[:most]


def read_untrusted(file: Path, most: int) -> str | None:
    """The text of a file that a program wrote; None unless it is a plain file of `most` bytes."""
    try:
        data = read_plain(file, most + 1)
    except OSError:
        return None
    return data.decode(errors="replace") if len(data) <= most else None
