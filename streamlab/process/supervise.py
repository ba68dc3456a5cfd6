"""A small process between a notebook and a server: `python -m streamlab.process.supervise -- CMD`.

It holds the lifeline. Its standard input ends when the notebook's kernel stops it, is restarted or
is killed. Then, or when it is told to end itself (SIGINT, SIGTERM), the server's whole process
group gets SIGTERM and, 2 s later, SIGKILL.
It runs CMD in a session of its own, with its output in a log file and, where told to, in a cup:
resource limits that leave no room for a whole file. It writes two JSON lines to its standard
output: `{"pid": N}` once CMD runs, and `{"exit": STATUS}` when CMD has ended by itself.
With `--isolate` it sets the filter of `streamlab.process.seccomp`; if that fails, CMD does not
start. With `--most` it ends CMD's processes when together they hold more memory than that, when
they are more than `--tasks`, or when it can't look at them. Without `--isolate` they may hold
memory that no look finds: then the watch is for programs that mean no harm.
If this process itself is killed, which no program can catch, Linux kills CMD with it. Processes
that have left CMD's group become its children when their parent ends (Linux), and end with it too.

Standard library only, and small. Checks fork it from a process that has loaded it (see
`streamlab.process.ahead`), so no meter may count what it holds itself.
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
            shut = _shutting() if options.isolate else None
            child = subprocess.Popen(
                options.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=_POSIX,
                preexec_fn=_preparation(options, shut) if _POSIX else None,
            )
        except subprocess.SubprocessError:
            return 1  # the child has written its reason
        except Exception as error:  # whatever it is, CMD has not started
            log.write(_could_not_start(options, error))
            return 1
    ending = threading.Event()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        # From now on this process may be told to end itself, so its handlers are set already.
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
    # The starter was killed, so no process will read or remove the log. It may be /dev/null.
    if os.getppid() != starter and os.path.isfile(options.log):
        with suppress(OSError):
            os.unlink(options.log)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m streamlab.process.supervise", description=__doc__
    )
    parser.add_argument("--log", default=os.devnull, help="file for the output of CMD")
    parser.add_argument("--cup", default="{}", help='limits as JSON, {"RLIMIT_DATA": bytes, ...}')
    parser.add_argument("--isolate", action="store_true", help="forbid CMD many system calls")
    parser.add_argument("--most", type=int, help="bytes of memory for all of CMD's processes")
    parser.add_argument("--tasks", type=int, help="processes and threads that CMD's may be")
    parser.add_argument("--files", type=int, help="files that CMD's may have made")
    parser.add_argument("--files-in", action="append", default=[], help="a folder of such files")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- CMD [ARGUMENT ...]")
    options = parser.parse_args(arguments)
    if options.command[:1] == ["--"]:
        del options.command[0]
    if not options.command:
        parser.error("no command given after --")
    return options


def _shutting() -> Callable[[], None]:
    from streamlab.process.seccomp import shutting  # not before: this process stays small

    return shutting()


def _could_not_start(options: argparse.Namespace, why: Exception) -> bytes:
    return f"could not start {options.command[0]}: {why}\n".encode()


def _preparation(
    options: argparse.Namespace, shut: Callable[[], None] | None
) -> Callable[[], None]:
    """What the child does before it becomes CMD: tie its life to this process, set its limits.

    Where that fails, it writes the reason, and does not become CMD.
    """
    import resource

    limits: dict[str, int] = json.loads(options.cup)
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

    def prepare_or_tell() -> None:
        try:
            prepare()
        except Exception as error:
            os.write(_STANDARD_OUTPUT, _could_not_start(options, error))  # by now it is the log
            raise

    return prepare_or_tell


def _tell(**message: object) -> None:
    """Write a message to standard output, by one system call.

    Not by `print`: Python ends with a fatal error if a thread is inside of it when the main one
    comes to its end.
    """
    with suppress(OSError):  # the other end is closed
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
    """End CMD's processes once they hold or are more than they may: no limit can say all that.

    Also when they can't be looked at any more: what they hold is not known then.
    """
    try:
        why = _why_to_end(options)
    except Exception as error:
        why = f"could not be watched any more ({type(error).__name__}: {error})"
    try:
        with open(options.log, "ab") as file:
            file.write(f"\nended from outside: it {why}\n".encode())
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _why_to_end(options: argparse.Namespace) -> str:
    """Look at CMD's processes ten times a second until there is a reason to end them."""
    from streamlab.process.memory import (  # not before: this process stays small
        files_of_sandbox,
        footprint_of,
    )

    while True:
        found = footprint_of(os.getpid(), itself=False)
        if found.held > options.most:
            return f"held more than {options.most >> 20} MiB of memory"
        if options.tasks is not None and found.tasks > options.tasks + _OWN_TASKS:
            return f"had more than {options.tasks} processes and threads"
        most = options.files
        if most is not None and files_of_sandbox(os.getpid(), options.files_in) > most:
            return f"had more than {most} files"
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
            # until a process waits for them.
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
    from streamlab.process.proc import children_of

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
