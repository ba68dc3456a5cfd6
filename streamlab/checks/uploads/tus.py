"""Lab 11: uploads that can be resumed, by the core of tus 1.0.0 and its extension "creation".

The protocol: https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

from streamlab.checks.connection import Connection
from streamlab.checks.evidence import by_hand
from streamlab.checks.outcome import promise
from streamlab.checks.uploads.common import (
    REFUSED,
    Framed,
    Launch,
    content,
    end_check,
    expect_status,
    expect_tag,
    head_of,
    letters,
    number_in,
    random_name,
    right_alone,
    stored_below,
    talk,
    upload,
    visible,
)
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

UPLOADS = "/uploads"
VERSION = "1.0.0"
RESUMABLE = f"Tus-Resumable: {VERSION}"
OFFSET_TYPE = "Content-Type: application/offset+octet-stream"
BAD_LENGTHS = ("", "-1", "+5", "1e3", "1_0", "5.0", "0x5", "5 5", "\xb2", "five")
"""What is no number of bytes, though programs take some of it for one."""


# Requests


def metadata_of(name: str) -> str:
    """The header that tells an upload's name (tus, "Upload-Metadata")."""
    return f"Upload-Metadata: filename {b64encode(name.encode()).decode()}"


def create_head(name: str, length: str | None, *lines: str, version: str = RESUMABLE) -> bytes:
    """A request for a new upload; without a name, `lines` have to tell it."""
    told = [] if length is None else [f"Upload-Length: {length}"]
    names = [] if not name else [metadata_of(name)]
    versions = [version] if version else []
    return head_of("POST", UPLOADS, *versions, *told, *names, "Content-Length: 0", *lines)


def create(connection: Connection, name: str, length: str | None, *lines: str) -> RawAnswer:
    """Ask for a new upload; returns the answer."""
    connection.send(create_head(name, length, *lines))
    return connection.receive("POST")


@dataclass(frozen=True)
class Upload:
    """An upload that can be resumed, as a client knows it."""

    server: Server
    name: str
    path: str
    length: int

    def head(self, *lines: str) -> bytes:
        """The question how far it is."""
        return head_of("HEAD", self.path, *(lines or (RESUMABLE,)))

    def patch(self, offset: int, length: int | None, *lines: str) -> bytes:
        """The head of a request with more of it: `length` bytes, or chunks (None)."""
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        given = lines or (RESUMABLE, OFFSET_TYPE)
        return head_of("PATCH", self.path, *given, f"Upload-Offset: {offset}", framing)

    def on(self, server: Server) -> Upload:
        """The same upload after a new start."""
        return Upload(server, self.name, self.path, self.length)


# Commands to try by hand

_URL = "sed -n 's|^[Ll]ocation: *\\(http://[^/]*\\)*|http://127.0.0.1:PORT|p'"


def create_by_hand(length: int | str) -> str:
    """A command that asks for an upload of so many bytes, with the name `r`."""
    return (
        f"curl -sS -i -X POST -H '{RESUMABLE}' -H 'Upload-Length: {length}' "
        f"-H '{metadata_of('r')}' http://127.0.0.1:PORT{UPLOADS}"
    )


def resume_by_hand(length: int, *steps: str) -> str:
    """The same, and then requests for that upload: `HEAD`, or the offset and the size of a PATCH.

    A size with a `<` behind it is that of a client which announces more, and leaves.
    """
    lines = [f"U=$({create_by_hand(length)} | tr -d '\\r' | {_URL})"]
    for step in steps:
        if step == "HEAD":
            lines.append(f"curl -sS -I -H '{RESUMABLE}' $U")
        else:
            offset, size = step.split()
            kind = f"-H '{RESUMABLE}' -H '{OFFSET_TYPE}' -H 'Upload-Offset: {offset}'"
            source = f"head -c {size} /dev/zero"
            if size.endswith("<"):
                source = f"(head -c {size[:-1]} /dev/zero; sleep 9)"
                kind += " --max-time 2"
            lines.append(f"{source} | curl -sS -i -X PATCH {kind} -T - $U")
    return "; ".join([*lines, "ls -lA ROOT"])


# What a right answer is


def expect_version(connection: Connection, answer: RawAnswer) -> None:
    """Each answer names the version of tus."""
    with promise("version-told"):
        if answer.header("tus-resumable") != VERSION:
            came = answer.header("tus-resumable") or "none"
            told = f"Tus-Resumable should be {VERSION}, and {came} came"
            connection.fault("no_version", told, answer.raw)


def new_upload(server: Server, name: str, length: int) -> Upload:
    """A new upload of so many bytes."""
    with promise("create"), talk(server, create_by_hand(length)) as connection:
        answer = create(connection, name, str(length))
        expect_status(connection, answer, (201,), "wrong_status", "A new upload")
        location = urlsplit(answer.header("location") or "")
        ours = not location.netloc or location.netloc.startswith("127.0.0.1")
        if not location.path.startswith("/") or not ours:
            told = "Location should name the upload: /uploads/ID, or the whole URL"
            connection.fault("no_location", told, answer.raw)
        expect_version(connection, answer)
        path = location.path + (f"?{location.query}" if location.query else "")
        return Upload(server, name, path, length)


def offset_of(each: Upload, what: str, command: str = "", cause: str = "wrong_status") -> int:
    """How far an upload is, as HEAD says; the check fails if it says nothing right."""
    with talk(each.server, command or resume_by_hand(each.length, "HEAD")) as connection:
        connection.note(what)
        connection.send(each.head())
        answer = connection.receive("HEAD")
        told = f"HEAD {each.path}"
        if answer.status not in (200, 204):
            expect_status(connection, answer, (200, 204), cause, told)
        offset = number_in(answer, "upload-offset")
        if offset is None or offset > each.length:
            said = f"{told}: Upload-Offset should be a number, at most {each.length}"
            connection.fault("no_offset", said, answer.raw)
        expect_version(connection, answer)
        return offset


def append(each: Upload, offset: int, data: bytes, what: str, command: str = "") -> RawAnswer:
    """Send more of an upload, which must be taken; returns the answer."""
    with talk(each.server, command) as connection:
        connection.note(what)
        connection.send(each.patch(offset, len(data)) + data, how="")
        answer = connection.receive("PATCH")
        told = f"PATCH with the bytes from {offset} on"
        expect_status(connection, answer, (204,), "wrong_status", told)
        wanted = offset + len(data)
        if number_in(answer, "upload-offset") != wanted:
            said = f"{told}: Upload-Offset should be {wanted} afterwards"
            connection.fault("no_offset", said, answer.raw)
        expect_version(connection, answer)
        return answer


# TUS


def speaks_tus(launch: Launch, rng: Random) -> None:
    """Each of the three requests is answered as tus says, also where it is refused."""
    server = launch()
    right_alone(server, rng)
    _whole_upload(server, rng)
    _refused_requests(server, rng)
    _new_uploads(server, rng)


def _whole_upload(server: Server, rng: Random) -> None:
    """A file that comes in three requests, and takes the place of another one at the last."""
    name, data = random_name(rng), letters(rng, rng.randrange(3000, 4000))
    with promise("put"):
        upload(server, name, Framed(b"the old file"))
    each = new_upload(server, name, len(data))
    cuts = sorted(rng.sample(range(1, len(data)), 2))
    hand = resume_by_hand(900, "0 300", "HEAD", "300 300", "HEAD", "600 300", "HEAD")
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        with promise("head"):
            _expect_head(each, begin, hand)
        with promise("create"):
            if content(server.root / name) != b"the old file":
                told = f"{begin} of {len(data)} bytes have come, and {name!r} has changed already"
                end_check("half_file", server, told, hand)
        with promise("patch"):
            answer = append(each, begin, data[begin:end], f"at {begin} of {len(data)}", hand)
    with promise("last"), talk(server, hand) as connection:
        connection.note(f"the last PATCH of {len(data)} bytes was answered with {answer.status}")
        if content(server.root / name) != data:
            told = f"The last byte has come, and the file {name!r} is not what was sent"
            connection.fault("no_file", told, answer.raw)
        expect_tag(connection, answer, data)


def _expect_head(each: Upload, offset: int, command: str) -> None:
    """HEAD says how far an upload is, how long it will be, and that nobody may keep that."""
    with talk(each.server, command) as connection:
        connection.send(each.head())
        answer = connection.receive("HEAD")
        expect_status(connection, answer, (200, 204), "wrong_status", "HEAD")
        for name, value in (("upload-offset", offset), ("upload-length", each.length)):
            if number_in(answer, name) != value:
                told = f"{name.title()} should be {value}"
                connection.fault("no_offset", told, answer.raw)
        kept = (answer.header("cache-control") or "").lower().split(",")
        if "no-store" not in [each.strip() for each in kept]:
            told = "Cache-Control should be no-store: a cache must not answer for the server"
            connection.fault("no_store", told, answer.raw)
        expect_version(connection, answer)


def _refused_requests(server: Server, rng: Random) -> None:
    """What does not fit is refused, and changes nothing."""
    data = letters(rng, 60)
    each = new_upload(server, random_name(rng), len(data))
    with promise("patch"):
        append(each, 0, data[:20], "the first 20 bytes of 60")

    def refuse(
        raw: bytes, status: int, cause: str, what: str, method: str = "PATCH"
    ) -> tuple[Connection, RawAnswer]:
        with talk(server) as connection:
            connection.note("an upload has 20 of 60 bytes")
            connection.send(raw)
            answer = connection.receive(method)
            expect_status(connection, answer, (status,), cause, what)
            expect_version(connection, answer)
        if (now := offset_of(each, f"after {what}")) != 20:
            told = f"{what}: refused, and yet the upload is at {now} afterwards, not at 20"
            end_check(cause, server, told)
        return connection, answer

    with promise("conflict"):
        for offset in (0, 19, 21, 60, 2**32 + 20):
            raw = each.patch(offset, 3) + b"xyz"
            refuse(raw, 409, "any_offset", f"PATCH with Upload-Offset {offset}, not 20")
    with promise("type"):
        for line in ("Content-Type: application/octet-stream", "X-No-Type: 1"):
            raw = each.patch(20, 3, RESUMABLE, line) + b"xyz"
            refuse(raw, 415, "any_type", f"PATCH with {line}")
    with promise("version"):
        for version in ("Tus-Resumable: 0.2.2", "Tus-Resumable: 1.0.1", "X-No-Version: 1"):
            for raw, method in (
                (each.patch(20, 3, version, OFFSET_TYPE) + b"xyz", "PATCH"),
                (each.head(version), "HEAD"),
                (create_head(random_name(rng), "5", version=version), "POST"),
            ):
                what = f"{method} with {version}"
                connection, answer = refuse(raw, 412, "any_version", what, method)
                known = (answer.header("tus-version") or "").split(",")
                if VERSION not in [each.strip() for each in known]:
                    told = f"{what}: Tus-Version should name {VERSION}"
                    connection.fault("no_version", told, answer.raw)
    with promise("beyond"):
        raw = each.patch(20, 41) + b"x" * 41
        refuse(raw, 413, "beyond_length", "PATCH with 41 bytes where 40 are missing")
        if each.name in visible(server.root):
            end_check("beyond_length", server, "PATCH with 41 bytes where 40 are missing: a file")
        append(each, 20, data[20:], "the 40 bytes that are missing")
        if content(server.root / each.name) != data:
            told = "An upload was refused a byte too much, and then got the right bytes"
            end_check("wrong_bytes", server, f"{told}: the file is not what was sent")
    with promise("unknown"):
        _unknown(server, each)


def _unknown(server: Server, each: Upload) -> None:
    """There is no upload where none was created."""
    other = re.sub(r"[0-9A-Za-z]", "7", each.path.removeprefix(UPLOADS))
    for path in (UPLOADS + other, f"{UPLOADS}/%2e%2e%2f{each.name}", f"{UPLOADS}/no-such-upload"):
        lost = Upload(server, each.name, path, 60)
        for raw, method in ((lost.head(), "HEAD"), (lost.patch(0, 3) + b"xyz", "PATCH")):
            with talk(server) as connection:
                connection.send(raw)
                answer = connection.receive(method)
                expect_status(connection, answer, REFUSED, "unknown_found", method)
                if answer.header("upload-offset") is not None:
                    told = "There is no such upload, and the answer tells an Upload-Offset"
                    connection.fault("unknown_found", told, answer.raw)


def _new_uploads(server: Server, rng: Random) -> None:
    """What a new upload may be: empty, with more metadata, of no other name than a file's."""
    with promise("nothing"):
        each = new_upload(server, random_name(rng), 0)
        if content(server.root / each.name) != b"":
            told = f"An upload of 0 bytes is complete when it is created. There is no {each.name!r}"
            end_check("empty_waits", server, told, create_by_hand(0) + "; ls -lA ROOT")
    with promise("bad-length"):
        for length in (*BAD_LENGTHS, None):
            with talk(server, by_hand([create_head("r", length)])) as connection:
                answer = create(connection, random_name(rng), length)
                told = f"POST with Upload-Length {length!r}"
                expect_status(connection, answer, REFUSED, "bad_length", told)
    with promise("upload-name"):
        name = "\u0444 \U0001f3a5.mp4"
        more = b64encode(b"film/mp4").decode()
        named = f"Upload-Metadata: filetype {more},is_draft, {metadata_of(name).split(': ')[1]}"
        with talk(server) as connection:
            answer = create(connection, "", "0", named)
            told = "POST with a name, a type and a key without a value"
            expect_status(connection, answer, (201,), "wrong_status", told)
            if content(server.root / name) != b"":
                connection.fault("no_file", f"There is no file {name!r} of 0 bytes", answer.raw)
        around, metadata = server.root.parent, "Upload-Metadata: "
        bad = ["", "..", "../evil", ".hidden", "a/b", "evil\0", "/tmp/evil", "n" * 256]
        lines = [metadata_of(each) for each in bad]
        lines += [f"{metadata}filename", f"{metadata}filename =", f"{metadata}filetype {more}"]
        lines += [f"{metadata}filename ZX$Zpb!A==", f"{metadata}filename ZXZpb", "X-No-Name: 1"]
        for line in (*lines, f"{metadata}filename {b64encode(bytes([255])).decode()}"):
            before = stored_below(around).keys()
            with talk(server) as connection:
                connection.note("An upload of 0 bytes would be there at once")
                answer = create(connection, "", "0", line)
                new = sorted(stored_below(around).keys() - before)
                if any("evil" in each for each in new):
                    told = f"There is a new file now: {new[0]!r}, seen from the folder's parent"
                    connection.fault("traversal", told, answer.raw)
                expect_status(connection, answer, REFUSED, "bad_name", f"POST with {line}")
