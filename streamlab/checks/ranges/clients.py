"""Lab 08: curl, wget and aria2c resume a download that broke off."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks.evidence import state_of
from streamlab.checks.outcome import fail, note, promise
from streamlab.checks.ranges.answers import Video, write_fixture
from streamlab.executables import bounded, command, find_tool
from streamlab.files import MiB, read_plain
from streamlab.process.patience import Deadline
from streamlab.process.server import Server, out_of_memory

# CLIENT


def clients_resume(server: Server, rng: Random, scratch: Path) -> None:
    """curl and wget resume a download; aria2c makes one over four connections.

    A client that is not installed is left out, with a note; with CI set, that is an error.
    """
    video = write_fixture(server, rng, rng.randrange(5 * MiB, 6 * MiB))
    # First the client that notices a server without ranges.
    for name, use in (("curl", _curl), ("wget", _wget), ("aria2c", _aria2c)):
        program = find_tool(name)
        if program is None and os.environ.get("CI"):
            raise FileNotFoundError(f"CI may skip nothing, but {name} is not installed")
        if program is None:
            note(f"{name} is not installed: its part was left out.")
            continue
        folder = scratch / name
        folder.mkdir()
        with promise("aria2c" if name == "aria2c" else "curl-wget"):
            use(_Shell(server, video, name, folder), rng)


WHOLE = 30.0
"""Seconds that a client such as curl gets for a download (a `Deadline`). Its own limits are longer,
because it can't tell a late server from one that has no CPU. wget has no limit on the whole."""


MOST = 16 * MiB
"""What a client may write into a file, its own words included, in bytes."""


@dataclass(frozen=True)
class _Shell:
    """A real client, and the file that it has to download into a folder of its own."""

    server: Server
    video: Video
    program: str
    folder: Path

    @property
    def got(self) -> Path:
        """The file that the client writes."""
        return self.folder / self.video.file.name

    def run(self, *options: str) -> tuple[int, str]:
        """Run the client on the video; returns its exit status and its output.

        The check fails if it has not ended in time.
        """
        asking = command(self.program, *options, self.server.url + self.video.path)
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder)}
        deadline, late = Deadline(WHOLE), False
        words = self.folder.with_name(f"{self.folder.name}.log")
        with (
            words.open("wb") as output,
            subprocess.Popen(
                bounded(asking, MOST),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
            ) as ran,
        ):
            while ran.returncode is None:
                try:
                    ran.wait(timeout=deadline.turn)
                except subprocess.TimeoutExpired:
                    if deadline.passed and not late:
                        late = True
                        ran.kill()
        said = read_plain(words, MOST).decode(errors="replace")
        if late and ran.returncode < 0:
            program = Path(self.program).name
            what = f"{program} was still running after {WHOLE:g} s, and was killed"
            self.failed("never_done", what, said, *options)
        return ran.returncode, said.strip()

    def failed(self, cause: str, what: str, said: str, *options: str) -> NoReturn:
        """End the check, with this client's output as evidence."""
        lines = said.replace(f"{self.folder}/", "").splitlines()[-12:]
        words = "\n".join(f"    {line[:160]}" for line in lines)
        log = self.server.log()
        if out_of_memory(log):
            cause = "whole_file"
        url = f"http://127.0.0.1:PORT{self.video.path}"
        fail(
            cause,
            f"{what}. {self.outcome}It said:\n\n{words or '    (nothing)'}{state_of(self.server)}",
            shlex.join([self.program, *options, url]),
        )

    @property
    def outcome(self) -> str:
        """The state of the download, in a sentence; empty if it is right."""
        if self.is_right():
            return ""
        came = self.got.stat().st_size if self.got.is_file() else 0
        return f"The result has {came} bytes, and is not the file. "

    def is_right(self) -> bool:
        """Whether the download is the file."""
        return self.got.is_file() and read_plain(self.got, MOST) == self.video.body


def _curl(shell: _Shell, rng: Random) -> None:
    size = shell.video.size
    begun = rng.randrange(size // 4, size // 2)
    shell.got.write_bytes(shell.video.body[:begun])
    status, said = shell.run(
        *("-sS", "-m", "200", "-C", "-", "-O"),
        *("-w", "\nstatus %{http_code}, %{size_download} bytes"),
    )
    told = f"status 206, {size - begun} bytes"
    if status or not shell.is_right() or told not in said:
        what = f"curl had {begun} of {size} bytes, and was to fetch the other {size - begun}"
        shell.failed("no_resume", what, said, "-C", "-", "-O")


def _wget(shell: _Shell, rng: Random) -> None:
    size = shell.video.size
    begun = rng.randrange(size // 4, size // 2)
    shell.got.write_bytes(shell.video.body[:begun])
    options = ("-c", "-S", "--progress=dot:mega", "-t", "1", "-T", "200")
    status, said = shell.run(*options)
    if status or not shell.is_right() or " 206 " not in said:
        what = f"wget had {begun} of {size} bytes, and was to fetch the other {size - begun}"
        shell.failed("no_resume", what, said, "-c", "-S")
    status, said = shell.run(*options)
    if status or not shell.is_right() or " 416 " not in said:
        what = f"wget had all {size} bytes, asked for what comes after them, and was to get 416"
        shell.failed("no_resume", what, said, "-c", "-S")


def _aria2c(shell: _Shell, rng: Random) -> None:
    options = ("-x4", "-s4", "-k1M")
    status, said = shell.run(
        *("--log=-", "--log-level=info", "--enable-color=false"),
        *("--file-allocation=none", "--timeout=200", "--max-tries=2", "--retry-wait=0", *options),
    )
    told = [line for line in said.splitlines() if re.search(r"Range: |ERROR|WARN|xception", line)]
    parts = len({line for line in told if line.startswith("Range: ")})
    refusals = [line for line in said.splitlines() if re.match(r"HTTP/1\.[01] [45]", line)]
    if status or not shell.is_right() or parts < 2 or refusals:
        what = "aria2c was to fetch the file over four connections, in pieces of a mebibyte"
        shell.failed("no_pieces", what, "\n".join([*told, *refusals]), *options)
