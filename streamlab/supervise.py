"""A small process between a notebook and a server: `python -m streamlab.supervise -- CMD`.

It holds the lifeline: when its standard input ends, because the notebook's kernel stopped it, was
restarted or was killed, or when it is told to end itself (SIGINT, SIGTERM), the server's whole
process group gets SIGTERM and, 2 s later, SIGKILL.
It runs CMD in a session of its own, with its output in a log file and, where told to, in a cup:
resource limits that leave no room for a whole file. It writes two JSON lines to its standard
output: `{"pid": N}` once CMD runs, and `{"exit": STATUS}` when CMD has ended by itself.
Told how much CMD's processes may hold together, it forbids them what could not be seen (see
`streamlab.seccomp`), and ends them all when they hold more, or are more than they may be.
Should this process itself be killed, which nobody can catch, Linux kills CMD with it. Processes
that have left CMD's group become its children when their parent ends (Linux), and end with it too.

Standard library only, and small: it must never be what is measured.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

_OWN_TASKS = 16
"""Processes and threads that are not CMD's own: this one's, and those of what shuts CMD in."""

_POSIX = os.name == "posix"
_STANDARD_OUTPUT = 1
_PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>: the signal that a process gets when its parent ends."""
_PR_SET_CHILD_SUBREAPER = 36
"""From <sys/prctl.h>: orphans below this process become its children, not those of process 1."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command under the lifeline until it or standard input ends."""
    options = _parse(arguments)
    starter = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with open(options.log, "ab", buffering=0) as log:
        try:
            child = subprocess.Popen(
                options.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=_POSIX,
                preexec_fn=_preparation(options) if _POSIX else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            log.write(f"could not start {options.command[0]}: {error}\n".encode())
            return 1
    ending = threading.Event()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        # Who knows of CMD may tell this process to end itself: not before it can.
        _tell(pid=child.pid)
        threading.Thread(target=_report_exit, args=(child, ending), daemon=True).start()
        if options.most is not None:
            threading.Thread(target=_watch, args=(child.pid, options), daemon=True).start()
        while sys.stdin.buffer.read(4096):
            pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already
    ending.set()
    _end_group(child)
    _end_strays()
    # Killed: nobody is left to read the log, or to remove it. It may be no file, but /dev/null.
    if os.getppid() != starter and os.path.isfile(options.log):
        with suppress(OSError):
            os.unlink(options.log)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m streamlab.supervise", description=__doc__)
    parser.add_argument("--log", default=os.devnull, help="file for the output of CMD")
    parser.add_argument("--cup", default="{}", help='limits as JSON, {"RLIMIT_DATA": bytes, ...}')
    parser.add_argument("--most", type=int, help="bytes of memory for all of CMD's processes")
    parser.add_argument("--tasks", type=int, help="processes and threads that CMD's may be")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- CMD [ARGUMENT ...]")
    options = parser.parse_args(arguments)
    if options.command[:1] == ["--"]:
        del options.command[0]
    if not options.command:
        parser.error("no command given after --")
    return options


def _preparation(options: argparse.Namespace) -> Callable[[], None]:
    """What the child does before it becomes CMD: tie its life to this process, set its limits."""
    import resource

    limits: dict[str, int] = json.loads(options.cup)
    shut = None
    if options.most is not None:
        from streamlab.seccomp import shutting  # not before: this process stays small

        shut = shutting()
    supervisor = os.getpid()
    # The signal comes when the *thread* that started the child ends: here, the main thread.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
            if os.getppid() != supervisor:  # killed before the tie was made
                os._exit(1)
        for name, value in limits.items():
            which = getattr(resource, name)
            hard = resource.getrlimit(which)[1]
            if hard != resource.RLIM_INFINITY:
                value = min(value, hard)
            resource.setrlimit(which, (value, value))
        if shut is not None:
            shut()

    return prepare


def _tell(**message: object) -> None:
    """Write a message to standard output, by one system call.

    Not by `print`: Python ends with a fatal error if a thread is inside of it when the main one
    comes to its end.
    """
    with suppress(OSError):  # nobody listens any more
        os.write(_STANDARD_OUTPUT, f"{json.dumps(message)}\n".encode())


def _report_exit(child: subprocess.Popen[bytes], ending: threading.Event) -> None:
    """Say how CMD ended by itself, but leave it a zombie: its pid, and so its group's, stays taken.

    `ending` is set before it is ended from here.
    """
    if hasattr(os, "waitid"):
        with suppress(ChildProcessError):  # ended and waited for by _end_group
            info = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert info is not None
            exited = info.si_code == os.CLD_EXITED
            status = info.si_status if exited else -info.si_status
            if not ending.is_set():
                _tell(exit=status)
    else:
        status = child.wait()
        if not ending.is_set():
            _tell(exit=status)


def _watch(pid: int, options: argparse.Namespace) -> None:
    """End CMD's processes once they hold or are more than they may: no limit can say all that."""
    from streamlab.memory import footprint_of  # not before: this process stays small

    while True:
        with suppress(Exception):  # a process that ends while it is read must not end the watch
            found = footprint_of(os.getpid())
            why = ""
            if found.held > options.most:
                why = f"held more than {options.most >> 20} MiB of memory"
            elif options.tasks is not None and found.tasks > options.tasks + _OWN_TASKS:
                why = f"had more than {options.tasks} processes and threads"
            if why:
                with open(options.log, "ab") as file:
                    file.write(f"\nended from outside: it {why}\n".encode())
                os.killpg(pid, signal.SIGKILL)
                return
        time.sleep(0.1)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    if not _POSIX:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
        child.kill()
        return
    with suppress(OSError):
        os.killpg(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        if child.poll() is not None:
            # Its own children come here when it has ended, as zombies often: members of the group
            # until somebody waits for them.
            with suppress(ChildProcessError):
                while os.waitpid(-child.pid, os.WNOHANG)[0]:
                    pass
            if not _group_exists(child.pid):
                return
        time.sleep(0.01)
    with suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _end_strays() -> None:
    """Kill what is left below this process: what had gone into a group or session of its own."""
    if _POSIX:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return  # mostly: and nothing more has to be loaded
    from streamlab.memory import children_of

    deadline = time.monotonic() + GRACE
    while (strays := children_of(os.getpid())) and time.monotonic() < deadline:
        for stray in strays:
            with suppress(OSError):
                os.kill(stray, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _group_exists(group: int) -> bool:
    """Whether a process group has members, its leader having been waited for."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
