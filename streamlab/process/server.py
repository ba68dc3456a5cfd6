"""A server as a real process: started under the supervisor, waited for, read, stopped.

    with Server("server.py", root="files") as server:
        requests.get(server.url + "/hello.txt")

The process ends with the process that started it, even when that is killed (see
`streamlab.process.supervise`).
"""

from __future__ import annotations

import os
import queue
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from streamlab import files
from streamlab.errors import NotListening, ServerError
from streamlab.files import MiB, SampleFile
from streamlab.process.listeners import listens_elsewhere
from streamlab.process.patience import Deadline, connect
from streamlab.process.proc import listens_on
from streamlab.process.program import (
    Conditions,
    Cup,
    Events,
    Supervisor,
    end,
    read_log,
    supervised,
)
from streamlab.process.sandbox import Sandbox, exit_status

READY = 10.0
"""Seconds that a server gets from its start to its first line."""

_LISTENING = re.compile(r"^listening on http://127\.0\.0\.1:([0-9]{1,5})/?\s*$", re.MULTILINE)
_LOOKS = 50
"""How often in a row another program must be seen to listen where a server says that it does."""
_LOG_TAIL = 4000
_SIGXFSZ = getattr(signal, "SIGXFSZ", 25)


class Server:
    """A server's process and how to reach it.

    `file` is a script, run as `python FILE --root ROOT --port PORT`, or, with `app` naming an
    object in it, an ASGI app, run by `streamlab.serve` with ROOT in `STREAMLAB_ROOT`. `path` is how
    the paths of files look to its clients, `{}` being a file's name (see `path_of`). With `cup` it
    runs under those limits (Linux and macOS). `environment` is added to that of this process. It
    runs in the folder `cwd` (default: this one). `ready` is the time it gets to listen, in seconds;
    then, unless `probe` is false, it also has to take a connection, with nothing on it. That time
    stands still while it uses the CPU, or waits for one (see `Deadline`).
    With `sandbox` it runs shut in, and `environment` is all that it gets. `group` is the folder of
    a control group that it joins (see `streamlab.process.groups`).
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
        group: Path | None = None,
    ) -> None:
        self.file = Path(file)
        self.root = Path(root)
        self.port = port
        self.app = app
        self.path = path
        self.conditions = Conditions(cup, dict(environment or {}), cwd, sandbox, group)
        """What its process runs in."""
        self.ready = ready
        self.probe = probe
        self.pid = 0
        """The process id of the server itself, which leads its process group."""
        self.url = ""
        """Where it listens: `http://127.0.0.1:PORT`."""
        self._supervisor: Supervisor | None = None
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
    def cup(self) -> Cup | None:
        """Its limits; None if it has none."""
        return self.conditions.cup

    @property
    def environment(self) -> Mapping[str, str]:
        """What is added to the environment of this process."""
        return self.conditions.environment

    @property
    def supervisor_pid(self) -> int:
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
            end(supervisor)
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
        return read_log(self._log_file)

    def mark(self) -> None:
        """Note how much the server has written so far: `recent_log` begins there."""
        self._marked = self._log_size()

    def recent_log(self) -> str:
        """What the server has written since `mark`; all of it when it has ended by itself."""
        if self._log_file is None or not self.running:
            return self.log()
        return read_log(self._log_file, self._marked)

    @property
    def output_limit(self) -> int | None:
        """The limit on a file that was written, in bytes, if the server came up against it.

        Its log has that size, or SIGXFSZ has ended it (setrlimit(2), `RLIMIT_FSIZE`). What it
        wrote to other files can't be seen while it runs.
        """
        if self.cup is None or self.cup.fsize_mib is None:
            return None
        limit = int(self.cup.fsize_mib * MiB)
        size = self._log_size() if self._log_file is not None else self._last_size
        reached = size >= limit or self.exit_status == -_SIGXFSZ
        return limit if reached else None

    def listens_on(self) -> list[tuple[str, int]]:
        """The addresses, host and port, on which its processes listen, as the kernel tells."""
        return listens_on(self.supervisor_pid) if self.running else []

    def _log_size(self) -> int:
        return self._log_file.stat().st_size if self._log_file is not None else 0

    def __enter__(self) -> Server:
        return self if self.running else self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Server {self.name}>"

    def _launch(self) -> None:
        given = {"STREAMLAB_ROOT": str(self.root.resolve())} if self.app else {}
        self.pid, self.url = 0, ""
        self._ended, self._exit_status = False, None
        assert self._log_file is not None
        conditions = replace(self.conditions, environment={**given, **self.environment})
        command = [sys.executable, *self.command[1:]]
        self._supervisor, self._events = supervised(command, self._log_file, conditions)

    def _await_listening(self) -> None:
        deadline = Deadline(self.ready, starting=self.supervisor_pid)
        foreign = 0
        while not self._listens():
            if not self.running:
                raise ServerError(self._why_it_ended())
            port = self._announced_port()
            foreign = foreign + 1 if port and self._is_foreign(port) else 0
            if (foreign > _LOOKS or deadline.passed) and not self._listens():
                used = round(deadline.used)
                how = f" It used {used} s of CPU time until then." if used > self.ready else ""
                raise NotListening(
                    f"{self.file} did not listen within {self.ready:g} s: a server's first line is "
                    f"'listening on http://127.0.0.1:PORT'.{how}{self._what_was_seen()}"
                )
            deadline.pause()

    def _listens(self) -> bool:
        """Whether it has said where it listens, and, if asked to, takes a connection."""
        self._take_events()
        if not self.pid or not (port := self._announced_port()):
            return False
        if not self._is_foreign(port) and (not self.probe or _accepts(port)):
            self.url = f"http://127.0.0.1:{port}"
            return True
        return False

    def _announced_port(self) -> int | None:
        found = _LISTENING.search(self.log())
        return int(found[1]) if found and int(found[1]) < 2**16 else None

    def _is_foreign(self, port: int) -> bool:
        """Whether another program listens there, whose answers would be taken for this one's."""
        return self.supervisor_pid > 0 and listens_elsewhere(self.supervisor_pid, port)

    def _take_events(self) -> None:
        with suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                self.pid = event.get("pid", self.pid)
                if "exit" in event:
                    self._ended = True
                    status = event["exit"]
                    self._exit_status = exit_status(status) if self.conditions.sandbox else status

    def _why_it_ended(self) -> str:
        taken = "Address already in use" in self.log() or "WinError 10048" in self.log()
        if taken and not self.port:
            return (
                f"{self.file} was started with --port 0, for any free port, and tried one that is "
                f"taken: it has to listen on the port that it is told.{self._what_it_wrote()}"
            )
        if taken:
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
        if (port := self._announced_port()) and self._is_foreign(port):
            where += f" On port {port}, which it announced, another program listens."
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
