"""Lab 10: nginx sends the file, and the app says which one (X-Accel-Redirect)."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from urllib.parse import quote, unquote_to_bytes

from streamlab.checks import request_forms
from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.evidence import curl, shown
from streamlab.checks.examples import for_all
from streamlab.checks.exchange import ask, request_for
from streamlab.checks.outcome import CouldNotRun, fail, note, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.production.common import first_of_all
from streamlab.checks.workspace import Launch
from streamlab.executables import find_tool
from streamlab.files import random_file
from streamlab.http.answer import RawAnswer, read_answer
from streamlab.process.patience import Deadline, connect
from streamlab.process.program import Conditions, end, read_log, supervised
from streamlab.process.server import Server

SETTING = "ACCEL_PREFIX"
HEADER = "x-accel-redirect"
NAMES = tuple(name for name in request_forms.AWKWARD_NAMES if "\n" not in name)
ASKING = ("X-Sendfile-Type: X-Accel-Redirect", "X-Accel-Mapping: {root}=/protected/")
"""What a client may say, in the hope that the app takes it for nginx."""


def nginx_sends(launch: Launch, rng: Random, scratch: Path) -> None:
    """With the setting the answer is a header, but not without it, nor for what is no file."""
    _only_by_the_setting(launch(), rng)
    prefix = f"/{name_of(rng, '')}/"
    server = launch(environment={SETTING: prefix})
    small = random_file(rng.randrange(3000, 9000), name_of(rng), server.root)
    with promise("accel"):
        _expect_header(server, small.name, quote(small.name), prefix, "not_offloaded")
    with promise("accel-name"):
        _names_are_encoded(server, prefix, rng)
    with promise("accel-refused"):
        _nothing_outside(server, rng)
    with promise("accel"):
        _real_nginx(server, prefix, rng, scratch)


def _only_by_the_setting(server: Server, rng: Random) -> None:
    """Without the setting files are sent, whatever a client says. What is missing is refused."""
    small = first_of_all(server, rng)
    with promise("missing"):
        _refused(server, f"/files/{name_of(rng)}", "wrong_status")
    with promise("own-setting"), open_connection(server) as connection:
        asking = [line.format(root=server.root) for line in ASKING]
        connection.send(Wanted(server.path_of(small), None).request(*asking))
        answer = connection.receive()
        if answer.body != small.path.read_bytes() or answer.header(HEADER) is not None:
            what = f"{SETTING} is not set, so the file itself should come, whatever the client says"
            connection.fault("trusts_client", what, answer.raw)


def _expect_header(server: Server, name: str, encoded: str, prefix: str, cause: str) -> None:
    """A file's answer is status 200, the header, and no body."""
    with open_connection(server) as connection:
        connection.note(f"{SETTING} is {prefix}, and a file is named {name!r}")
        connection.send(Wanted(server.path_of(encoded), None).request())
        answer = connection.receive(cause="no_end")
        values = [value for key, value in answer.headers if key.lower() == HEADER]
        if answer.status != 200:
            found = cause if cause != "not_offloaded" else "wrong_status"
            connection.fault(found, "The status should be 200", answer.raw)
        if len(values) != 1:
            what = f"There should be one X-Accel-Redirect, and there are {len(values)}"
            connection.fault("not_offloaded", what, answer.raw)
        if answer.body:
            what = f"{len(answer.body)} bytes of body came, and it should be none"
            connection.fault("body_too", what, answer.raw)
        _expect_value(connection, answer, values[0], prefix + name, cause)


def _expect_value(
    connection: Connection, answer: RawAnswer, value: str, wanted: str, cause: str
) -> None:
    """A value that nginx decodes to the wanted path (it takes a `?` for the end of the path)."""
    path = value.partition("?")[0]
    plain = re.fullmatch(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*", value) is not None
    decoded = unquote_to_bytes(path)
    if plain and decoded == wanted.encode():
        return
    what = f"X-Accel-Redirect is {value!r}. Decoded, it should be {wanted!r}"
    what += f", and is {decoded.decode(errors='replace')!r}" if plain else ", in ASCII and encoded"
    connection.fault(cause if cause != "not_offloaded" else "name_not_encoded", what, answer.raw)


def _names_are_encoded(server: Server, prefix: str, rng: Random) -> None:
    def attempt(name: str) -> None:
        file = server.root / name
        try:
            file.write_bytes(b"a film\n")
        except OSError:
            return  # this file system does not take such a name
        try:
            _expect_header(server, name, quote(name, safe=""), prefix, "name_not_encoded")
        finally:
            file.unlink()

    one_line = request_forms.file_names().filter(lambda name: "\n" not in name)
    for_all(one_line, rng, attempt, known=NAMES)


def _nothing_outside(server: Server, rng: Random) -> None:
    """What is no file of the folder gets a refusal, and no header."""
    secret = server.root.parent / name_of(rng, ".secret")
    secret.write_bytes(b"not for clients")
    (server.root / "folder").mkdir(exist_ok=True)
    ways = (
        *("", "folder", "%2e%2e", name_of(rng), "n" * 300),
        f"..%2f{secret.name}",
        f"%2e%2e/{secret.name}",
        f"../{secret.name}",
        f"%2e%2e%2f{secret.name}",
        quote(str(secret), safe=""),
        f"folder%2f..%2f..%2f{secret.name}",
    )
    for way in ways:
        _refused(server, f"/files/{way}", "outside")


def _refused(server: Server, path: str, cause: str) -> None:
    answer = ask(server, [request_for(path)], lingers=0)
    named = answer.header(HEADER)
    if 400 <= answer.status < 500 and named is None:
        return
    told = f"Sent GET {path}. Came back:\n\n{shown(answer.raw)}\n\nIt should be refused, with a "
    told += "status from 400 to 499, and without X-Accel-Redirect."
    if not answer.raw:
        cause = "no_answer"
    elif cause == "outside" and named is None and answer.status != 200:
        cause = "wrong_status"
    fail(cause, told, curl(server, path, "--path-as-is -i"))


def _real_nginx(server: Server, prefix: str, rng: Random, scratch: Path) -> None:
    """If nginx is here, it serves files by what the app says."""
    if find_tool("nginx") is None:
        note("nginx is not installed here, so only the app's headers were looked at.")
        return
    with nginx(server, prefix, scratch) as port:
        for name in (
            "a film.mp4",
            "100%25 a+b.mp4",
            "what?#1.mp4",
            "\u0444\u0438\u043b\u044c\u043c",
        ):
            content = rng.randbytes(rng.randrange(3000, 9000))
            (server.root / name).write_bytes(content)
            path = server.path_of(quote(name, safe=""))
            with connect(port, 5) as sock:
                sock.sendall(request_for(path))
                raw = b""
                while piece := sock.recv(65536):
                    raw += piece
            answer = read_answer(raw, closed=True)
            if answer.status != 200 or answer.body != content:
                fail(
                    "not_offloaded",
                    f"A client asked nginx for {path}, nginx asked the app, and what came was\n\n"
                    f"{shown(raw)}\n\nIt should be the {len(content)} bytes of the file.",
                    curl(server, path, "-i"),
                )


@contextmanager
def nginx(server: Server, prefix: str, scratch: Path) -> Iterator[int]:
    """An nginx in front of the app, which sends the files of its folder; gives its port."""
    program = find_tool("nginx")
    assert program is not None
    places = "".join(
        f"  {kind}_temp_path {scratch}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = scratch / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"{user}daemon off;\nmaster_process off;\npid {scratch}/pid;\nerror_log stderr crit;\n"
        "events { worker_connections 64; }\n"
        f"http {{\n{places}  access_log off;\n  server {{\n    listen 127.0.0.1:{port};\n"
        f"    location / {{ proxy_pass {server.url}; }}\n"
        f'    location {prefix} {{ internal; alias "{server.root}/"; }}\n  }}\n}}\n',
        encoding="utf-8",
    )
    log = scratch / "nginx.log"
    log.touch()
    supervisor, _events = supervised(
        [program, "-e", "stderr", "-c", str(config)], log, Conditions()
    )
    try:
        deadline = Deadline(10)
        while not _accepts(port):
            if deadline.passed:
                raise CouldNotRun(f"nginx did not start: {read_log(log)[-500:]}", late=True)
            deadline.pause(0.02)
        yield port
    finally:
        end(supervisor)


def _accepts(port: int) -> bool:
    with suppress(OSError), connect(port, 1):
        return True
    return False
