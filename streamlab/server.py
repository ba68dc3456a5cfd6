"""A server as a real process: started under the supervisor, waited for, read, stopped.

    with Server("server.py", root="files") as server:
        requests.get(server.url + "/hello.txt")

The process dies with whoever started it, even when that is killed (see `streamlab.supervise`).
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamlab import files
from streamlab.environment import inherited
from streamlab.errors import ServerError
from streamlab.files import KiB, MiB, SampleFile
from streamlab.memory import listens_on
from streamlab.patience import Deadline, connect
from streamlab.sandbox import Sandbox, exit_status

NOT_LISTENING = "did not listen within"
READY = 10.0
"""Seconds that a server gets from its start to its first line."""

AS_EVERYWHERE = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHON_COLORS": "0",
}
"""What a program's environment has everywhere: text is UTF-8, whatever the user's locale, and no
traceback has colours, which Python 3.13 gives it in a notebook (`FORCE_COLOR`)."""

_LISTENING = re.compile(r"^listening on http://127\.0\.0\.1:([0-9]{1,5})/?\s*$", re.MULTILINE)
_LOG_TAIL = 4000
_SIGXFSZ = getattr(signal, "SIGXFSZ", 25)
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
    fsize_mib: int | None = None

    def limits(self) -> dict[str, int]:
        """The limits by the names of the `resource` module, in its units."""
        scale = {"data_mib": MiB, "stack_kib": KiB, "fsize_mib": MiB}
        names = {key: "RLIMIT_" + key.split("_")[0].upper() for key in asdict(self)}
        return {
            names[key]: value * scale.get(key, 1)
            for key, value in asdict(self).items()
            if value is not None
        }

    def __str__(self) -> str:
        return f"a cup of {self.data_mib} MiB"


class Server:
    """A server's process and how to reach it.

    `file` is a script, run as `python FILE --root ROOT --port PORT`, or, with `app` naming an
    object in it, an ASGI app, run by `streamlab.serve` with ROOT in `STREAMLAB_ROOT`. `path` is how
    the paths of files look to its clients, `{}` being a file's name (see `path_of`). With `cup` it
    runs under those limits (Linux and macOS). `environment` is added to that of this process. It
    runs in the folder `cwd` (default: this one). `ready` is the time it gets to listen, in seconds;
    then, unless `probe` is false, it also has to take a connection, with nothing on it. That time
    stands still while it uses the CPU, or waits for one (see `Deadline`).
    With `sandbox` it runs shut in, and `environment` is all that it gets.
    """

    def __init__(
        self,
        file: Path | str,
        root: Path | str = files.FOLDER,
        *,
        port: int = 0,
        app: str | None = None,
        path: str = "/{}",
        cup: Cup | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        ready: float = READY,
        probe: bool = True,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.file = Path(file)
        self.root = Path(root)
        self.port = port
        self.app = app
        self.path = path
        self.cup = cup
        self.environment = dict(environment or {})
        self.cwd = cwd
        self.ready = ready
        self.probe = probe
        self.sandbox = sandbox
        self.pid = 0
        """The process id of the server itself, who leads its process group."""
        self.url = ""
        """Where it listens: `http://127.0.0.1:PORT`."""
        self._supervisor: subprocess.Popen[str] | None = None
        self._events: Events = queue.Queue()
        self._ended = False
        self._exit_status: int | None = None
        self._log_file: Path | None = None
        self._last_log = ""
        self._marked = 0
        self._last_size = 0

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def keeper(self) -> int:
        """The process that all of the server's processes descend from, even those that left it."""
        return self._supervisor.pid if self._supervisor is not None else 0

    @property
    def command(self) -> list[str]:
        """The command that runs the server, as for a terminal in this folder."""
        file = self.file.as_posix()
        if self.app is not None:
            return ["python", "-m", "streamlab.serve", f"{file}:{self.app}", f"--port={self.port}"]
        return ["python", file, f"--root={self.root.as_posix()}", f"--port={self.port}"]

    @property
    def running(self) -> bool:
        """Whether the server has been started and has not ended since."""
        self._take_events()
        return self._supervisor is not None and not self._ended

    @property
    def exit_status(self) -> int | None:
        """How it ended by itself: its exit status, or minus a signal's number; else None."""
        self._take_events()
        return self._exit_status

    def path_of(self, file: SampleFile | str) -> str:
        """The path by which a client asks for a file below `root`: `'/64MiB.bin'`."""
        return self.path.format(file if isinstance(file, str) else file.name)

    def start(self) -> Server:
        """Start the process and wait until it listens; raises `ServerError` if it does not."""
        self.stop()
        if not self.file.is_file():
            raise ServerError(f"there is no {self.file}: check the name and the folder")
        self.root.mkdir(parents=True, exist_ok=True)
        handle, log = tempfile.mkstemp(prefix=f"streamlab-{self.name}-", suffix=".log")
        os.close(handle)
        self._log_file = Path(log)
        self._marked = 0
        try:
            self._launch()
            self._await_listening()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the process and all its children; harmless when it has ended already."""
        self._take_events()
        self._events = queue.Queue()  # how it ends from here on is not by itself
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            _end(supervisor)
        if self._log_file is not None:
            self._last_log, self._last_size = self.log(), self._log_size()
            self._log_file.unlink(missing_ok=True)
            self._log_file = None

    def restart(self) -> Server:
        """A fresh process in place of the old one."""
        return self.start()

    def log(self) -> str:
        """What the server has written to standard output and error, also after its end.

        Of a very long log, its beginning and its end.
        """
        if self._log_file is None:
            return self._last_log
        return _read_log(self._log_file)

    def mark(self) -> None:
        """Note how much the server has written so far: `recent_log` begins there."""
        self._marked = self._log_size()

    def recent_log(self) -> str:
        """What the server has written since `mark`; all of it when it has ended by itself."""
        if self._log_file is None or not self.running:
            return self.log()
        return _read_log(self._log_file, self._marked)

    @property
    def output_limit(self) -> int | None:
        """The limit on a file that was written, in bytes, if the server came up against it.

        Its log has that size, or SIGXFSZ has ended it (setrlimit(2), `RLIMIT_FSIZE`). What it
        wrote to other files can't be seen while it runs.
        """
        if self.cup is None or self.cup.fsize_mib is None:
            return None
        limit = self.cup.fsize_mib * MiB
        size = self._log_size() if self._log_file is not None else self._last_size
        reached = size >= limit or self.exit_status == -_SIGXFSZ
        return limit if reached else None

    def listens_on(self) -> list[tuple[str, int]]:
        """The addresses, host and port, on which its processes listen, as the kernel tells."""
        return listens_on(self.keeper) if self.running else []

    def _log_size(self) -> int:
        return self._log_file.stat().st_size if self._log_file is not None else 0

    def __enter__(self) -> Server:
        return self if self.running else self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Server {self.name}>"

    def _launch(self) -> None:
        environment = {"STREAMLAB_ROOT": str(self.root.resolve())} if self.app else {}
        self.pid, self.url = 0, ""
        self._ended, self._exit_status = False, None
        assert self._log_file is not None
        self._supervisor, self._events = _supervised(
            [sys.executable, *self.command[1:]],
            self._log_file,
            self.cup,
            {**environment, **self.environment},
            self.cwd,
            self.sandbox,
        )

    def _await_listening(self) -> None:
        deadline = Deadline(self.ready, starting=self.keeper)
        while not self._listens():
            if not self.running:
                raise ServerError(self._why_it_ended())
            if deadline.passed and not self._listens():
                used = round(deadline.used)
                how = f" It used {used} s of CPU time until then." if used > self.ready else ""
                raise ServerError(
                    f"{self.file} {NOT_LISTENING} {self.ready:g} s: a server's first line is "
                    f"'listening on http://127.0.0.1:PORT'.{how}{self._what_was_seen()}"
                )
            deadline.pause()

    def _listens(self) -> bool:
        """Whether it has said where it listens, and, if asked to, takes a connection."""
        self._take_events()
        if self.pid and (port := self._announced_port()) and (not self.probe or _accepts(port)):
            self.url = f"http://127.0.0.1:{port}"
            return True
        return False

    def _announced_port(self) -> int | None:
        found = _LISTENING.search(self.log())
        return int(found[1]) if found and int(found[1]) < 2**16 else None

    def _take_events(self) -> None:
        with suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                self.pid = event.get("pid", self.pid)
                if "exit" in event:
                    self._ended = True
                    status = event["exit"]
                    self._exit_status = exit_status(status) if self.sandbox else status

    def _why_it_ended(self) -> str:
        if "Address already in use" in self.log() or "WinError 10048" in self.log():
            return (
                f"port {self.port} is taken by another program: "
                "choose another one, or leave the port out"
            )
        return (
            f"{self.file} ended at its start with status {self._exit_status}."
            f"{self._what_it_wrote()}"
        )

    def _what_was_seen(self) -> str:
        """Where it listens, its first line, and all that it wrote."""
        places = [f"{host}:{port}" for host, port in self.listens_on()]
        where = f" It listens on {' and '.join(places)}." if places else " It listens on no port."
        first = next(iter(self.log().splitlines()), "")
        line = f" Its first line was {first[:200]!r}." if first else ""
        return f"{where}{line}{self._what_it_wrote()}"

    def _what_it_wrote(self) -> str:
        log = self.log().strip()
        return f" It wrote:\n\n{log[-_LOG_TAIL:]}" if log else " It wrote nothing."


_OUT_OF_MEMORY = re.compile(
    r"^[ |+]*(?:MemoryError(?:: .*)?|(?:OSError: \[Errno 12\]|\S+: .*Cannot allocate memory).*)$",
    re.MULTILINE,
)


def out_of_memory(log: str) -> bool:
    """Whether a program's log has a line that Python or a tool writes when memory is refused.

    That is a traceback's last line, or a tool's error (ENOMEM): not any line that has the word.
    """
    return _OUT_OF_MEMORY.search(log) is not None


def _accepts(port: int) -> bool:
    with suppress(OSError), connect(port, 1):
        return True
    return False


@dataclass(frozen=True)
class Finished:
    """How a program that is no server came to its end."""

    status: int | None
    """Its exit status, or minus a signal's number; None if its time was up."""
    output: str
    """What it wrote to standard output and error; of very much, its beginning and its end."""


def run_program(
    command: Sequence[str],
    *,
    cup: Cup | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    timeout: float = 30.0,
    watch: Callable[[int], None] | None = None,
    sandbox: Sandbox | None = None,
) -> Finished:
    """Run a program under the supervisor until it ends, or for `timeout` seconds (a `Deadline`).

    Nothing of it is left afterwards. `watch` is called with its pid twenty times a second. With
    `sandbox` it runs shut in, and `environment` is all that it gets.
    """
    handle, name = tempfile.mkstemp(prefix="streamlab-", suffix=".log")
    os.close(handle)
    log = Path(name)
    try:
        supervisor, events = _supervised(command, log, cup, environment or {}, cwd, sandbox)
        pid, status = 0, None
        deadline = Deadline(timeout)
        try:
            while not deadline.passed:
                with suppress(queue.Empty):
                    event = events.get(timeout=0.05)
                    pid = event.get("pid", pid)
                    if "exit" in event:
                        status = exit_status(event["exit"]) if sandbox else event["exit"]
                        break
                if pid and watch is not None:
                    watch(pid)
        finally:
            _end(supervisor)
        return Finished(status, _read_log(log))
    finally:
        log.unlink(missing_ok=True)


Events = queue.Queue[dict[str, Any]]


def _supervised(
    command: Sequence[str],
    log: Path,
    cup: Cup | None,
    environment: Mapping[str, str],
    cwd: Path | str | None,
    sandbox: Sandbox | None,
) -> tuple[subprocess.Popen[str], Events]:
    """Start a command under the supervisor; what that says comes as events."""
    # -P: what lies in the folder that it runs in must not be taken for a module.
    supervise = [sys.executable, "-P", "-m", "streamlab.supervise", "--log", str(log)]
    if cup is not None:
        supervise += ["--cup", json.dumps(cup.limits())]
    if sandbox is not None:
        supervise += ["--most", str(sandbox.memory_mib * MiB)]
        if sandbox.nproc is not None:
            supervise += ["--tasks", str(sandbox.nproc)]
        command = sandbox.wrap(command, environment, cwd)
        environment, cwd = {}, None
    supervisor = subprocess.Popen(
        [*supervise, "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**inherited(), **AS_EVERYWHERE, **environment},
        cwd=cwd,
        # In a session of its own, an interrupt of the notebook does not reach it; the end of its
        # standard input always does.
        start_new_session=os.name == "posix",
    )
    events: Events = queue.Queue()
    threading.Thread(target=_carry, args=(supervisor, events), daemon=True).start()
    return supervisor, events


def _end(supervisor: subprocess.Popen[str]) -> None:
    """Cut the lifeline, and wait: bounded, for the supervisor gives CMD 2 s and then kills it."""
    assert supervisor.stdin is not None
    with suppress(OSError):
        supervisor.stdin.close()
    supervisor.wait()


def _read_log(log: Path, start: int = 0) -> str:
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


def _carry(supervisor: subprocess.Popen[str], events: queue.Queue[dict[str, Any]]) -> None:
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
