"""Any program under the supervisor: what it runs in, how it starts, what it writes, how it ends.

See `streamlab.process.supervise`, which runs beside it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streamlab.environment import inherited
from streamlab.errors import ServerError
from streamlab.files import KiB, MiB
from streamlab.process import ahead
from streamlab.process.groups import joining
from streamlab.process.patience import Deadline
from streamlab.process.proc import SUBREAPERS
from streamlab.process.sandbox import FILES, Sandbox, exit_status

AS_EVERYWHERE = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHON_COLORS": "0",
}
"""What a program's environment has everywhere: text is UTF-8, whatever the user's locale, and no
traceback has colours, which Python 3.13 gives it in a notebook (`FORCE_COLOR`)."""

_LOG_PART = 256 * KiB


@dataclass(frozen=True)
class Cup:
    """Limits for a server's process, so that what is larger than the cup can't be held in it.

    `data_mib` bounds private writable memory (`RLIMIT_DATA`, MiB) and `stack_kib` each thread's
    stack (`RLIMIT_STACK`, KiB), which counts into the first. The others are descriptors, processes
    of this user, CPU seconds, and the size of a written file (MiB). None leaves a limit alone.
    Source: getrlimit(2). Not `RLIMIT_AS`: that would also forbid a harmless map of a large file.
    """

    data_mib: int | None = 256
    stack_kib: int | None = 1024
    nofile: int | None = None
    nproc: int | None = None
    cpu_s: int | None = None
    fsize_mib: float | None = None

    def limits(self) -> dict[str, int]:
        """The limits by the names of the `resource` module, in its units."""
        scale = {"data_mib": MiB, "stack_kib": KiB, "fsize_mib": MiB}
        names = {key: "RLIMIT_" + key.split("_")[0].upper() for key in asdict(self)}
        return {
            names[key]: int(value * scale.get(key, 1))
            for key, value in asdict(self).items()
            if value is not None
        }

    def __str__(self) -> str:
        return f"a cup of {self.data_mib} MiB"


@dataclass(frozen=True)
class Conditions:
    """What a program runs in.

    With `cup` it runs under those limits (Linux and macOS). `environment` is added to that of this
    process. `cwd` is its folder (None: that of this process). With `sandbox` it runs shut in, and
    `environment` is all that it gets. `group` is the folder of a control group that it joins.
    """

    cup: Cup | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | str | None = None
    sandbox: Sandbox | None = None
    group: Path | None = None


AS_HERE = Conditions()
"""What this process runs in."""


@dataclass(frozen=True)
class Finished:
    """How a program that is no server came to its end."""

    status: int | None
    """Its exit status, or minus a signal's number; None if its time was up."""
    output: str
    """What it wrote to standard output and error; of very much, its beginning and its end."""


def run_program(
    command: Sequence[str],
    conditions: Conditions = AS_HERE,
    *,
    timeout: float = 30.0,
    watch: Callable[[int], None] | None = None,
) -> Finished:
    """Run a program under the supervisor until it ends, or for `timeout` seconds (a `Deadline`).

    Nothing of it is left afterwards. `watch` is called with its pid twenty times a second. Raises
    `ServerError` if it can't be started.
    """
    handle, name = tempfile.mkstemp(prefix="streamlab-", suffix=".log")
    os.close(handle)
    log = Path(name)
    try:
        supervisor, events = supervised(command, log, conditions)
        pid, status = 0, None
        deadline = Deadline(timeout)
        try:
            while not deadline.passed:
                with suppress(queue.Empty):
                    event = events.get(timeout=0.05)
                    pid = event.get("pid", pid)
                    if "exit" in event:
                        if not pid:
                            raise ServerError(read_log(log).strip())
                        status = event["exit"]
                        if conditions.sandbox is not None:
                            status = exit_status(status)
                        break
                if pid and watch is not None:
                    watch(pid)
        finally:
            end(supervisor)
        return Finished(status, read_log(log))
    finally:
        log.unlink(missing_ok=True)


Supervisor = subprocess.Popen[str] | ahead.Helper
Events = queue.Queue[dict[str, Any]]


def supervised(
    command: Sequence[str], log: Path, conditions: Conditions
) -> tuple[Supervisor, Events]:
    """Start a command under the supervisor: its output goes into `log`, its end is an event."""
    environment, cwd = conditions.environment, conditions.cwd
    arguments = ["--log", str(log)]
    if conditions.cup is not None:
        arguments += ["--cup", json.dumps(conditions.cup.limits())]
    if (sandbox := conditions.sandbox) is not None:
        arguments += ["--isolate", "--most", str(sandbox.memory_mib * MiB)]
        if sandbox.nproc is not None:
            arguments += ["--tasks", str(sandbox.nproc)]
        arguments += ["--files", str(FILES), *(f"--files-in={each}" for each in sandbox.writable)]
        command = sandbox.wrap(command, environment, cwd)
        environment, cwd = {}, None
    if conditions.group is not None:
        command = joining(conditions.group, [*command])
    arguments += ["--", *command]
    environment = {**inherited(), **AS_EVERYWHERE, **environment}
    # In a session of its own, an interrupt of the notebook does not reach it; the end of its
    # standard input always does.
    supervisor: Supervisor | None = ahead.start(
        "streamlab.process.supervise:main", arguments, environment, cwd
    )
    if supervisor is None:
        supervisor = subprocess.Popen(
            # -P: what lies in the folder that it runs in must not be taken for a module.
            [sys.executable, "-P", "-m", "streamlab.process.supervise", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=cwd,
            start_new_session=os.name == "posix",
        )
    if sys.platform == "linux":
        SUBREAPERS.add(supervisor.pid)
    events: Events = queue.Queue()
    threading.Thread(target=_carry, args=(supervisor, events), daemon=True).start()
    return supervisor, events


def end(supervisor: Supervisor) -> None:
    """Cut the lifeline, and wait. The supervisor gives CMD 2 s and then kills it."""
    assert supervisor.stdin is not None
    with suppress(OSError):
        supervisor.stdin.close()
    supervisor.wait()
    SUBREAPERS.discard(supervisor.pid)


def read_log(log: Path, start: int = 0) -> str:
    """A log file's text from byte `start` on; of a very long one, its beginning and its end.

    Bytes that are no UTF-8 are escaped.
    """
    with log.open("rb") as file:
        file.seek(start)
        text = file.read(_LOG_PART)
        if (size := os.fstat(file.fileno()).st_size) > start + 2 * _LOG_PART:
            file.seek(size - _LOG_PART)
            text += b"\n[...]\n"
        return (text + file.read(_LOG_PART)).decode(errors="backslashreplace")


def _carry(supervisor: Supervisor, events: queue.Queue[dict[str, Any]]) -> None:
    """Carry the supervisor's lines into a queue; its own end counts as the server's."""
    assert supervisor.stdout is not None
    told = False
    with supervisor.stdout:
        for line in supervisor.stdout:
            event = json.loads(line)
            told = told or "exit" in event
            events.put(event)
    if not told:
        events.put({"exit": None})
