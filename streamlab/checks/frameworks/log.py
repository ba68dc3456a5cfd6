"""Lab 07: each line of the log arrives as soon as it is written."""

from __future__ import annotations

import time
from contextlib import ExitStack
from random import Random

from streamlab.checks.evidence import curl, log_of
from streamlab.checks.frameworks.common import (
    EACH,
    GZIP,
    LOG,
    LOG_NAME,
    PROMPT,
    SLACK,
    Log,
    Watcher,
    end_check,
)
from streamlab.checks.observe import BUSY, cpu_seconds, held_by, peak_memory, wait_until_idle
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import crowd, right_alone
from streamlab.checks.probes.waiting import hold
from streamlab.files import KiB, MiB, SampleFile, size_text
from streamlab.http.clients import Load
from streamlab.process.proc import bytes_read
from streamlab.process.server import Server


def log_is_live(server: Server, rng: Random) -> None:
    """First comes what is in the log, then each line when it is written; in between, no work."""
    log = Log(server, rng, lines=0)
    word = rng.randbytes(8).hex().encode()
    line = f"(sleep 1; seq 1000 >> ROOT/{LOG_NAME}) & {curl(server, LOG, '-N --max-time 5')}"
    with ExitStack() as stack:
        watchers: list[tuple[str, Watcher]] = []

        def start_client(name: str, *headers: str) -> None:
            watchers.append((name, stack.enter_context(Watcher(server, LOG, *headers))))

        def expect(what: str) -> None:
            for name, watcher in watchers:
                with ExitStack() as also:
                    if GZIP in name:
                        also.enter_context(promise("log-gzip"))
                    if problem := watcher.sees(log.content):
                        cause = problem.cause("late_line", "log_ends")
                        end_check(
                            cause, server, f"GET {LOG} by {name}. {what}: {problem.text}", line
                        )

        with promise("log-empty", late_line="five-seconds", log_ends="no-end"):
            start_client("a client")
            wait_until_idle(server)
            log.write(b"the first line, " + word + b"\n")
            expect("The log was empty. Then its first line was written")
        with promise("log-type"):
            kinds = watchers[0][1].headers("content-type")
            if [each.partition(";")[0].strip().lower() for each in kinds] != ["text/plain"]:
                what = f"Content-Type of {LOG} should be text/plain: {' and '.join(kinds)}"
                end_check("wrong_type", server, what, line)
        with promise("log-beginning", log_ends="no-end"):
            start_client("a client that came later")
            expect(f"The log had {len(log.content)} bytes")
            start_client(f"a client that sends {GZIP}", GZIP)
            expect(f"The log had {len(log.content)} bytes")
        odd = [b"\n", b"   \n", "the river is high: \u00e9\n".encode(), b"\xff\x00\x80\n"]
        odd += [
            b"two ends\r\n",
            b"\r\r\n",
            b"data: \x1a\x04\n",
            rng.randbytes(300).replace(b"\n", b"") + b"\n",
        ]
        for each in rng.sample(odd, len(odd)):
            with promise("any-bytes", log_ends="no-end", late_line="five-seconds"):
                log.write(each)
                expect(f"The line {each[:40]!r} was written to the log")
        with promise("each-line", log_ends="no-end"):
            time.sleep(0.3)  # time to find nothing new, which is not the end of the log
            log.write(word + b"\n")
            expect("A line was written to the log")
            log.write(*(b"%d %b\n" % (number, word) for number in range(1000)))
            expect("1000 lines were written to the log at once")
            size = rng.randrange(200 * KiB, 300 * KiB)
            log.write(rng.randbytes(size // 2).hex().encode() + b"\n")
            expect(f"A line of {size} bytes was written to the log")
        with promise("log-rest"):
            wait_until_idle(server)
            _expect_rest(server, f"{len(watchers)} clients watched {LOG}, and nothing was written")
        with promise("no-end"):
            log.write(b"after a rest\n")
            expect("Nothing was written for more than a second, and then the line 'after a rest'")
    _expect_large_log(server, rng, log)


def _stopped_before_it_grew(
    server: Server, rng: Random, log: Log, baseline: int, clients: int = 2
) -> None:
    """Clients that had all of the log read no more, and it grows: nothing is kept for them.

    The clients are few, so that it is seen also where all of them share what is kept.
    """
    block = b"".join(rng.randbytes(2000).hex().encode() + b"\n" for _ in range(50))
    before, allowed = len(log.content), SLACK + clients * EACH
    with ExitStack() as stack:
        for _ in range(clients):
            watcher = stack.enter_context(Watcher(server, LOG, buffer=128 * KiB))
            if problem := watcher.sees(log.content):
                told = f"GET {LOG}, which had {size_text(before)}: {problem.text}"
                end_check(problem.cause("late_line", "log_ends"), server, told)
        log.write(*[block] * (36 * MiB // len(block)))
        if (held := peak_memory(server, baseline + allowed)) > baseline + allowed:
            told = f"{clients} clients had all of {LOG} ({size_text(before)}), and read no more. "
            told += f"Then it grew by {size_text(len(log.content) - before)}. The server held "
            told += f"{size_text(held - baseline)} more than when idle; {size_text(allowed)} are "
            told += f"allowed.{log_of(server)}"
            fail("holds_much", told, curl(server, LOG, "-N --limit-rate 1k -o /dev/null"))


def _expect_rest(server: Server, summary: str, seconds: float = 1.2) -> None:
    """The server uses next to no CPU time for `seconds`."""
    began, spent = time.monotonic(), cpu_seconds(server)
    time.sleep(seconds)  # longer on a busy machine
    spent = (cpu_seconds(server) - spent) / (time.monotonic() - began)
    if spent > BUSY / 2:
        told = f"{summary}. The server used {spent:.0%} of a CPU.{log_of(server)}"
        fail("busy_loop", told, curl(server, LOG, "-N"))


def _expect_large_log(server: Server, rng: Random, log: Log) -> None:
    """A log of tens of MiB costs a few MiB a client, and is read once for each client."""
    baseline, clients = held_by(server), 4
    allowed = SLACK + clients * EACH
    with promise("log-large"):
        _stopped_before_it_grew(server, rng, log, baseline)
    file = SampleFile(log.path, len(log.content))
    with promise("log-large"):
        right_alone(server, file, MiB, LOG)
        load = Load(LOG, clients, "stalled", 256 * KiB)
        hold(server, file, load, baseline=baseline, allowed=allowed)
    with promise("each-line"), Watcher(server, LOG) as late:
        wait_until_idle(server)  # it has taken next to nothing of the log
        log.write(b"written while a client had still to read what was there\n")
        if problem := late.sees(log.content, 2 * PROMPT):
            cause = problem.cause("late_line", "log_ends")
            told = f"A client of {LOG} had not read the {size_text(file.size)} of it"
            end_check(
                cause, server, f"{told} when a line was written, and then read on: {problem.text}"
            )
    load = Load(LOG, 2, "stalled", file.size)
    with promise("read-once"), crowd(server, file, load) as many:
        failed = [each for each in many.arrive() if each.error is not None]
        if failed:
            what = f"2 clients asked for {LOG}, which had {size_text(file.size)}"
            cause = "late_line" if failed[0].failure == "unfinished" else "wrong_bytes"
            end_check(cause, server, f"{what}. {len(failed)} failed: {failed[0].error}")
        wait_until_idle(server)
        told = f"2 clients had all {size_text(file.size)} of {LOG}"
        read, spent = bytes_read(server.supervisor_pid, itself=False), cpu_seconds(server)
        began = time.monotonic()
        time.sleep(0.8)
        log.write(b"one line more\n")
        time.sleep(0.4)
        line = curl(server, LOG, "-N -o /dev/null")
        now = bytes_read(server.supervisor_pid, itself=False)
        if read is not None and now is not None and now - read > file.size // 2:
            seconds = time.monotonic() - began
            fail(
                "reads_again",
                f"{told}. Then one line was written. In {seconds:.1f} s the server has read "
                f"{size_text(now - read)}.{log_of(server)}",
                line,
            )
        share = (cpu_seconds(server) - spent) / (time.monotonic() - began)
        with promise("log-rest"):
            if share > BUSY / 2:
                fail("busy_loop", f"{told}. The server used {share:.0%} of a CPU.", line)
