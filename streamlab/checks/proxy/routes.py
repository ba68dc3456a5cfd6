"""Lab 09: providers, IDs, and requests that the gateway must refuse."""

from __future__ import annotations

import http.client
import shlex
from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

from streamlab.checks.evidence import shown
from streamlab.checks.examples import for_all
from streamlab.checks.outcome import promise
from streamlab.checks.proxy import forms
from streamlab.checks.proxy.clients import (
    Gateway,
    Launch,
    SteppedDownload,
    expect,
    fetch,
    gateway,
    url,
)
from streamlab.checks.proxy.common import (
    LAKE,
    ROUTES,
    alone,
    expect_error,
    expect_key,
    with_headers,
)
from streamlab.files import KiB, size_text
from streamlab.origin import Answer, Origin


def finds_its_way(launch: Launch, rng: Random) -> None:
    """The gateway asks the provider that a name stands for and no other, streamed or not."""
    with gateway(launch, rng) as gate, Origin() as canary:
        alone(gate)
        names = list(ROUTES)
        for name in rng.sample(names, len(names)):
            _, may_stream = ROUTES[name]
            headers = [f"X-Provider: {name}"] if name else []
            who = f"with X-Provider: {name}" if name else "without X-Provider"
            see = _streams if may_stream else _is_buffered
            with promise("provider"):
                path = see(gate, headers, who)
            expect_key(gate, path, headers)
        _follows_nothing(gate, canary)
        for_all(st.tuples(forms.good_ids(), st.booleans()), rng, lambda each: _takes(gate, *each))
        _takes(gate, "Z" * 100, metadata=False)
        _takes(gate, "-" * 100, metadata=True)
        _takes(gate, "content", metadata=True)  # its path ends like that of a download
        for number, file_id in enumerate(rng.sample(forms.BAD_IDS, len(forms.BAD_IDS))):
            for metadata in (False, True):
                _refuses_id(gate, file_id, metadata, [LAKE] if number % 3 == 0 else [])
        ways = st.tuples(forms.bad_ids(), st.booleans(), st.sampled_from([[], [LAKE]]))
        for_all(ways, rng, lambda each: _refuses_id(gate, *each), examples=40)
        for_all(
            st.tuples(forms.unknown_providers(), st.booleans()),
            rng,
            lambda each: _refuses_provider(gate, *each),
            known=[(name, about) for name in ("", "sea", "rivers") for about in (False, True)],
            examples=20,
        )


def _takes(gate: Gateway, file_id: str, metadata: bool) -> None:
    """A good ID goes to the upstream unchanged."""
    path = f"/v1/files/{file_id}" + ("" if metadata else "/content")
    body = f"river {path}".encode()  # of this path, and no other
    gate.origin.put(path, Answer(body))
    with promise("id", wrong_status="id"):
        found = fetch(gate, path)
        if not found.complete or (found.answer.status, found.answer.body) != (200, body):
            gate.fail(
                "id_refused" if 400 <= found.answer.status < 500 else "wrong_status",
                f"GET {path}: the ID has {len(file_id)} letters. Came back:\n\n"
                f"{shown(found.answer.raw)}\n\nIt should be the upstream's file, with status 200.",
                f"-i http://127.0.0.1:PORT{path}",
            )


def _streams(gate: Gateway, headers: Sequence[str], who: str) -> str:
    size = gate.rng.randrange(300 * KiB, 400 * KiB)
    path = gate.put(Answer(gate.rng.randbytes(2 * size), stop=size, stall=True))
    what = f"{who}, of which the upstream sends {size_text(size)} and then pauses"
    with SteppedDownload(gate, path, *headers, what=what) as download:
        download.sock.settimeout(4)
        try:
            download.response.begin()
            taken = download.response.read(100 * KiB)
        except TimeoutError:
            gate.fail(
                "not_streamed",
                f"{download.summary}: nothing came for 4 s. This provider may stream.",
                url("stall", "--max-time 2 -o got"),
            )
        except (OSError, http.client.HTTPException) as error:
            download.fail("no_answer", f"the connection broke ({error!r})")
        if download.response.status != 200:
            download.fail("wrong_status", f"the status is {download.response.status}")
        if len(taken) < 100 * KiB:
            download.fail("cut_short", f"cut short after {len(taken)} bytes")
    return path


def _is_buffered(gate: Gateway, headers: Sequence[str], who: str) -> str:
    body = gate.rng.randbytes(gate.rng.randrange(300 * KiB, 400 * KiB))
    path = gate.put(Answer(body, framing="chunked"))
    by_hand = url("chunked", "-D - -o got -H 'X-Provider: cheap'")
    what = f"{who}, {size_text(len(body))} that the upstream sends in chunks"
    with promise("lake-whole"):
        answer = expect(gate, path, *headers, status=200, body=body, what=what, by_hand=by_hand)
    if answer.header("content-length") != str(len(body)):
        gate.fail(
            "not_buffered",
            f"GET {path} {what}. Came back:\n\n{shown(answer.raw, 400)}\n\nThis provider may not "
            f"stream: the gateway takes in the whole file first, and says Content-Length: "
            f"{len(body)}.",
            by_hand,
        )
    told = (("Content-Disposition", 'attachment; filename="lake.bin"'),)
    for status in (200, 404):
        other = gate.put(Answer(b"as ordered", status, headers=told))
        what = f"{who}, which the upstream answers with status {status}"
        with promise("lake-head"):
            answer = expect(gate, other, *headers, status=status, body=b"as ordered", what=what)
            if answer.header("content-disposition") != told[0][1]:
                gate.fail(
                    "header_lost",
                    f"GET {other} {what}. The upstream sent\n\n    {': '.join(told[0])}\n\nand "
                    f"came back:\n\n{shown(answer.raw, 500)}",
                )
    for framing in ("length", "chunked"):
        cut = gate.put(Answer(body, framing=framing, stop=len(body) * 6 // 10))
        with promise("lake-whole"):
            expect_error(
                gate,
                cut,
                *headers,
                what=f"{who}, of which the upstream sends 60 % and closes the connection",
                cause="not_buffered",
                by_hand=url("cut", "-D - -o got -H 'X-Provider: cheap'"),
            )
    return path


def _follows_nothing(gate: Gateway, canary: Origin) -> None:
    """The gateway does not follow a redirection, to another server or to another path."""
    elsewhere = canary.put("/latest/meta-data", Answer(b"not for clients"))
    for status in (301, 302, 303, 307, 308):
        for lines, metadata in (([], False), ([LAKE], False), ([], True)):
            here = gate.put(Answer(b"not for clients"))
            target = gate.rng.choice([elsewhere, here])
            moved = Answer(b"moved", status, headers=(("Location", target),))
            path = gate.put(moved, metadata=metadata)
            found = fetch(gate, path, *lines).answer
            summary = (
                f"GET {path}{with_headers(lines)}, which the upstream answers with status {status} "
            )
            summary += f"and Location: {target}. "
            with promise("redirect-stays"):
                if went := [*canary.exchanges, *gate.asked(here)]:
                    gate.fail(
                        "follows",
                        f"{summary}The gateway went there; its Authorization was "
                        f"{went[0].header('authorization')!r}.",
                        url("redirect"),
                    )
            with promise("redirect"):
                right = found.status == status and found.header("location") == target
                if not (found.status == 502 or right) or found.problem:
                    gate.fail(
                        "wrong_status",
                        f"{summary}Came back:\n\n{shown(found.raw)}\n\nIt should be that "
                        "redirection, or 502.",
                        url("redirect"),
                    )


def _refuses_id(gate: Gateway, file_id: str, metadata: bool, lines: Sequence[str]) -> None:
    path = f"/v1/files/{file_id}" + ("" if metadata else "/content")
    with promise("id-refused"):
        _expect_refusal(gate, path, lines, "any_path")


def _refuses_provider(gate: Gateway, name: str, metadata: bool) -> None:
    path = gate.put(Answer(b"river"), metadata=metadata)
    with promise("unknown"):
        _expect_refusal(gate, path, [f"X-Provider: {name}"], "unknown_provider")


def _expect_refusal(gate: Gateway, path: str, lines: Sequence[str], cause: str) -> None:
    """The status is from 400 to 499, and the upstream is not asked for anything."""
    before = len(gate.origin.exchanges)
    found = fetch(gate, path, *lines).answer
    summary = f"GET {path[:200]}{with_headers(lines)}"
    options = "".join(f" -H {shlex.quote(line)}" for line in lines)
    by_hand = f"--path-as-is -i{options} {shlex.quote(f'http://127.0.0.1:PORT{path[:300]}')}"
    if asked := gate.origin.exchanges[before:]:
        gate.fail(
            cause,
            f"{summary}: the upstream was asked for {asked[0].path[:200]}, and should not have "
            f"been.",
            by_hand,
        )
    if not 400 <= found.status < 500 or found.problem:
        gate.fail(
            "no_refusal" if found.raw else "no_answer",
            f"{summary}. Came back:\n\n{shown(found.raw)}\n\nIt should be a status from 400 to "
            f"499.",
            by_hand,
        )
