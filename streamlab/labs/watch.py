"""Check a lab's programs at each save, and show the first check that fails (`streamlab watch`).

Times are in seconds. The main thread looks at the files and at the keyboard; the checks run in a
thread, whose run is stopped when a file changes, so that it never speaks of an old program.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from streamlab.labs import failures, runner
from streamlab.labs.manifest import Lab
from streamlab.labs.program import unreadable
from streamlab.labs.progress import next_hint, remember
from streamlab.labs.results import CheckResult, Step

LOOK = 0.2
"""How often the files are looked at."""
KEYS = "h: hint   l: list   e: evidence   a: all checks   q: quit"

PASSABLE = ("passed", "not_attempted")
"""Outcomes after which a run goes on: of two programs, one may be the stub."""

State = tuple[int, int, int]
"""What changes when a file is saved: its time in nanoseconds, its size, its number on the disk."""


def state_of(file: Path) -> State | None:
    """The state of a file; None while it is not there, as in the moment of some editors' saves."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass
class Run:
    """A run of checks in a thread, which ends at the first failure, or with `whole` at the end."""

    lab: Lab
    order: list[str]
    whole: bool
    doing: Callable[[Step], None]
    results: list[CheckResult] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            options = runner.RunOptions(stop=self._stop)
            runner.run_checks(
                self.lab, only=self.order, told=self._told, doing=self.doing, options=options
            )
        except BaseException as error:  # the main thread raises it again
            self.error = error

    def _told(self, result: CheckResult) -> None:
        if self._stop.is_set():
            return  # of a check that was not run
        self.results.append(result)
        if result.outcome not in PASSABLE and not self.whole:
            self._stop.set()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End it, with all of its processes."""
        self._stop.set()
        self._thread.join()


class Watch:
    """What is known of a lab while its student works on it. `say` prints text, `status` a line.

    The check that failed last is run first: it is the one that the student works on. Then come all
    others, in the lab's order, up to the first that fails.
    """

    def __init__(self, lab: Lab, say: Callable[[str], None], status: Callable[[str], None]) -> None:
        self.lab = lab
        self.say = say
        self.status = status
        self.files = [lab.folder / name for name in lab.programs]
        self.states: list[State | None] = []
        """Those of the programs that are checked, or were last."""
        self._seen: list[State | None] = []
        self.results: dict[str, CheckResult] = {}
        """Of the program as it was saved last: results by the id of their check."""
        self.failed: CheckResult | None = None
        """What failed last, of this program or an earlier one."""
        self.run: Run | None = None

    # Files and runs

    def look(self) -> None:
        """Begin anew if a program was saved, and tell of a run that has ended.

        A save takes a moment: it counts once two looks have seen the same.
        """
        before, self._seen = self._seen, [state_of(file) for file in self.files]
        if self._seen != self.states and self._seen == before:
            self.states = before
            self.begin()
        elif self.run is not None and self.run.ended:
            self._tell()

    def begin(self, *, whole: bool = False) -> None:
        """Run the checks on the programs as they are now; an earlier run is stopped."""
        self.end()
        self.results = {}
        self.say(f"---- {time.strftime('%H:%M:%S')}, {', '.join(self.lab.programs)} ----")
        for file in self.files:
            wrong = unreadable(file) if file.is_file() else f"there is no {file}: save it there"
            if wrong:
                self.say(wrong)
                return
        if not any(map(self.lab.attempted, self.files)):
            names = ", ".join(self.lab.programs)
            self.say(f"{names}: still the stub. Look for TODO in it, change it, and save.")
            return
        order = [check.id for check in self.lab.checks]
        if self.failed is not None and not whole:
            order = list(dict.fromkeys([self.failed.check, *order]))
        self.run = Run(self.lab, order, whole, self._doing)

    def end(self) -> None:
        """Stop the run, if there is one."""
        if self.run is not None:
            self.run.stop()
            self.run = None
            self.status("")

    def _doing(self, step: Step) -> None:
        if self.run is not None:
            done, total = len(self.run.results), len(self.run.order)
            self.status(f"{done} of {total} passed. {failures.step_text(self.lab, step)}")

    def _tell(self) -> None:
        """Say what a run has found."""
        assert self.run is not None
        run, self.run = self.run, None
        run.stop()
        self.status("")
        if run.error is not None:
            raise run.error
        self.results = {result.check: result for result in run.results}
        remember(self.lab, run.results, whole=len(run.results) == len(self.lab.checks))
        lost = [each for each in run.results if each.outcome not in PASSABLE]
        self.failed = lost[0] if lost else None
        if self.failed is None:
            words = failures.advice(self.lab, run.results)
            if todo := [each.check for each in run.results if each.outcome == "not_attempted"]:
                words = f"Still the stub, and not checked: {', '.join(todo)}."
            after = failures.afterwards(self.lab, run.results)
            self.say("\n\n".join(filter(None, [self.table(), words, *after])))
        elif run.whole:
            self.say(self.table())
        else:
            told = failures.as_text(self.lab, self.failed, short=True)
            self.say(f"{told}\n\nPassed before it: {self._passed(run)}.")

    @staticmethod
    def _passed(run: Run) -> str:
        return ", ".join(each.check for each in run.results if each.outcome == "passed") or "none"

    # Keys

    def press(self, key: str) -> bool:
        """Do what a key asks for; False for the one that ends the watch."""
        match key.lower():
            case "q":
                return False
            case "h":
                self.say(next_hint(self.lab))
            case "l":
                self.say(self.table())
            case "e":
                self.say(self._evidence())
            case "a":
                self.say("All checks, also after one that fails:")
                self.begin(whole=True)
            case _:
                self.say(KEYS)
        return True

    def table(self) -> str:
        """All checks, and what became of each since the last save."""
        running = self.run.results if self.run is not None else []
        results = {**self.results, **{each.check: each for each in running}}
        lines = []
        for check in self.lab.checks:
            result = results.get(check.id)
            outcome = result.outcome.replace("_", " ") if result else "-"
            lines.append(f"{outcome:<15} {check.points:>2g}   {check.title} ({check.id})")
        got = sum(result.points for result in results.values())
        return "\n".join([*lines, f"{got:g} of {self.lab.points:g} points"])

    def _evidence(self) -> str:
        if self.failed is None:
            return "Nothing has failed."
        return failures.as_text(self.lab, self.failed)


class Terminal:
    """Standard output with a line at its bottom that changes, if it is a terminal."""

    def __init__(self, idle: str) -> None:
        self.idle = idle
        """What stands in the bottom line while nothing runs."""
        self.live = sys.stdout.isatty()
        self._line = ""
        self._lock = threading.RLock()

    def say(self, text: str) -> None:
        """Print a text above the bottom line."""
        with self._lock:
            self._write(f"\r\x1b[K{text}\n\n" if self.live else f"{text}\n\n")
            self.status(self._line)

    def status(self, line: str) -> None:
        """Change the bottom line, which is cut to the width of the terminal."""
        with self._lock:
            self._line = line
            if self.live:
                width = shutil.get_terminal_size().columns - 1
                self._write(f"\r\x1b[K\x1b[2m{(line or self.idle)[:width]}\x1b[0m")

    def clear(self) -> None:
        """Leave nothing in the bottom line."""
        with self._lock:
            if self.live:
                self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def keyboard() -> Iterator[int | None]:
    """The descriptor of the keyboard, whose keys come without Enter; None if there is none."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield None
        return
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def watch(lab: Lab) -> None:
    """Check a lab's programs at each save, until a key, Ctrl+C or the end of the terminal ends it.

    No process is left then. Without a terminal it takes no keys, and says so.
    """
    for number in _ENDS:
        signal.signal(number, _interrupt)
    with keyboard() as keys:
        terminal = Terminal("Ctrl+C: end" if keys is None else KEYS)
        terminal.say(
            f"Watching {', '.join(lab.programs)} in {lab.folder}: each save is checked."
            + (" There are no keys, because this is no terminal. Ctrl+C ends it." * (keys is None))
        )
        watched = Watch(lab, terminal.say, terminal.status)
        try:
            going = True
            while going:
                watched.look()
                going = all(map(watched.press, _pressed(keys)))
        except KeyboardInterrupt:
            pass
        finally:
            for number in (signal.SIGINT, *_ENDS):
                signal.signal(number, signal.SIG_IGN)  # once is enough
            with suppress(OSError):  # the terminal may be gone
                watched.end()
                terminal.clear()


_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _pressed(keys: int | None) -> str:
    """The keys that were pressed within `LOOK` seconds; `q` where the terminal has gone."""
    if keys is None:
        time.sleep(LOOK)
        return ""
    if not select.select([keys], [], [], LOOK)[0]:
        return ""
    try:
        data = os.read(keys, 64)
    except OSError:
        data = b""
    # An arrow or a function key is a sequence that begins with an escape: no letters of ours.
    return "" if data.startswith(b"\x1b") else data.decode("ascii", "replace") or "q"
