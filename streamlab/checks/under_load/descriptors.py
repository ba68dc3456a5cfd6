"""Lab 06: the server runs out of descriptors, and recovers."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from random import Random

from streamlab.checks.evidence import cause_of, log_of, shown, state_of
from streamlab.checks.exchange import request_for
from streamlab.checks.observe import at_work, cpu_seconds
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import CHUNK, dense_file, name_of, warm_up
from streamlab.checks.under_load.common import (
    FIRST,
    REST,
    SILENCE,
    Launch,
    WaitingClient,
    WaitingClients,
    alone,
    cause_for_client,
    fail_for_client,
    make_room,
)
from streamlab.errors import DownloadError, MeterError
from streamlab.files import MiB, SampleFile, random_file, size_text
from streamlab.http.answer import AnswerSoFar
from streamlab.process.patience import Deadline
from streamlab.process.proc import descriptors, open_files
from streamlab.process.program import Cup
from streamlab.process.server import Server

FEW = 64
"""How many descriptors the server may have, so that it runs out of them."""
RECOVERY = 6.0
"""Seconds after which it must accept clients again; asyncio waits 1 s before it tries."""
ACCEPTS_AGAIN = 1.5
"""Seconds after which a server that accepted no client will accept none; asyncio waits 1 s."""


# FULL


def descriptors_run_out(launch: Launch, limits: Cup, rng: Random) -> None:
    """More clients come than there are descriptors: the server does not end, and does not spin."""
    make_room(200)
    surplus, few = 90, 5
    with promise("full-lives"):
        server = launch(cup=replace(limits, nproc=None, nofile=FEW))
        warm_up(server, rng)
        large = dense_file(rng.randrange(3 * MiB, 5 * MiB), name_of(rng), server.root, rng)
        small = random_file(rng.randrange(3000, 5000), name_of(rng), server.root)
        alone(server, large)
    line = f"ulimit -n {FEW}; python server.py --root files --port 8000  # then a hundred clients"
    summary = f"With {FEW} descriptors for the server, 8 clients took {size_text(FIRST)} of "
    summary += f"{large.url} ({size_text(large.size)}) and waited"
    with WaitingClients(server, large) as early, WaitingClients(server, large) as late:
        with promise("full-serves"):
            if problem := early.connect(8):
                fail_for_client(server, problem, summary, "blocks", line)
        late.send_partial(few)
        with promise("full-rests"):
            if awake := _awake(server, 0.5):
                told = f"{summary}, and {few} sent half a request: there are descriptors enough"
                fail("busy_loop", f"{told}. {awake}{log_of(server)}", line)
        late.send_partial(surplus - few)
        full = _until_full(server)
        # Some of the accepted clients go on, and no descriptor is left for the file.
        for client in late.here[:10]:
            with suppress(OSError):
                client.sock.sendall(request_for(large.url)[REST])
        summary += f", {surplus} more came and sent half a request, and 10 of them the rest"
        awake = _awake(server, 0.8)
        with promise("full-lives"):
            if not server.running:
                cause = cause_of("refused", server)
                cause = "dies_when_full" if cause == "died" else cause
                fail(cause, f"{summary}.{state_of(server)}", line)
        with promise("full-rests"):
            if awake:
                fail("spins_when_full", f"{summary}. {awake}{log_of(server)}", line)
        with promise("full-refuses"):
            for client in late.here[:10]:
                _is_refused_honestly(server, client, summary, line)
        _until_full(server, full)  # the clients that were refused have made room
        with promise("full-serves", dies_when_full="full-lives"):
            if problem := early.read_on(large.size):
                summary += (
                    f". Then the 8 read on, and one of them did not get its whole file: {problem}"
                )
                cause = cause_for_client(problem, server, "cuts_when_full")
                if cause in ("cut_short", "died"):
                    cause = "cuts_when_full" if server.running else "dies_when_full"
                fail(cause, f"{summary}.{state_of(server)}", line)
        late.disconnect(surplus)
        early.disconnect(8)
    with promise("full-recovers"):
        if problem := _recovers(server, small):
            summary += f". All left. A new client, which came {RECOVERY:g} s later, got no file: "
            cause = cause_for_client(problem, server, "stuck_when_full")
            cause = "stuck_when_full" if cause in ("no_answer", "cut_short") else cause
            fail(cause, f"{summary}{problem}.{state_of(server)}", line)


def _until_full(server: Server, enough: int = FEW) -> int:
    """Wait until a server has `enough` descriptors, or accepts no more clients; how many it has.

    asyncio tries to accept again a second after it had no descriptor left, so a server accepts no
    more once the number has stayed the same for longer than that.
    """
    latest, rest, deadline = -1, Deadline(ACCEPTS_AGAIN), Deadline(3 * ACCEPTS_AGAIN)
    while (now := _descriptors_of(server)) < enough and not deadline.passed:
        if now != latest:
            latest, rest = now, Deadline(ACCEPTS_AGAIN)
        elif rest.passed:
            break
        time.sleep(0.02)
    return now


def _descriptors_of(server: Server) -> int:
    """How many descriptors a server's processes have, without those of its supervisor."""
    supervisor = server.supervisor_pid
    with suppress(MeterError):  # it has ended
        return len(descriptors(supervisor)) - len(open_files(supervisor))
    return 0


def _is_refused_honestly(server: Server, client: WaitingClient, summary: str, line: str) -> None:
    """A client that came when no descriptor was left gets nothing, a part, or a 5xx."""
    so_far = AnswerSoFar()
    with suppress(OSError):
        while not (so_far.closed or so_far.full):
            so_far.take(client.sock.recv(CHUNK))
    answer = so_far.answer()
    if not answer.status or b"\r\n\r\n" not in answer.raw:
        return
    came = f"{summary}. One of the 10 got:\n\n{shown(answer.raw)}\n\n"
    if answer.status == 200 and answer.body == client.content[: len(answer.body)]:
        return
    if answer.status == 200:
        fail("wrong_bytes", f"{came}That is not the file.{log_of(server)}", line)
    if not 500 <= answer.status <= 599:
        fail("denies_file", f"{came}The file is there.{log_of(server)}", line)


def _recovers(server: Server, small: SampleFile) -> DownloadError | None:
    """Why a client that comes some time after all have left gets no answer; None if it gets one.

    Some clients try earlier, so the check ends as soon as the server has recovered.
    """
    deadline = Deadline(RECOVERY)
    while True:
        last = deadline.passed
        with WaitingClients(server, small) as newcomers:
            problem = newcomers.connect(1, small.size, 1, SILENCE if last else 1)
        if not problem or last:
            return problem
        time.sleep(0.2)


def _awake(server: Server, seconds: float) -> str:
    """How much a server works, in words, if it never rests in `seconds`; else empty.

    A process that always has something to do is ready to run at each look, however small its share
    of a busy machine is. A server that only logs a hundred times that accept has failed, as asyncio
    does, is soon finished.
    """
    before, began = cpu_seconds(server), time.monotonic()
    ready = looks = 0
    while True:
        ready += at_work(server)
        looks += 1
        time.sleep(0.02)
        passed, spent = time.monotonic() - began, cpu_seconds(server) - before
        always, late = ready > 0.9 * looks, passed > seconds + 5
        if passed > seconds and always and spent > (0.1 if late else 0.5):
            return f"It was at work in {ready} of {looks} looks, for {spent:.1f} s of CPU time."
        if late or (passed > seconds and not always):
            return ""
