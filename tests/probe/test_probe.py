"""A right server gets no "no", and a server with one mistake gets it in that row alone."""

from __future__ import annotations

import html
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamlab import Server, cli
from streamlab.errors import MeterError, ProbeError
from streamlab.files import KiB, MiB, random_file
from streamlab.probe import judge, run, target
from streamlab.probe.client import Budget, Client
from streamlab.probe.judge import MEMORY, QUESTIONS
from streamlab.probe.load import Plan
from streamlab.probe.pytest_plugin import run_probe
from streamlab.probe.report import as_json, as_page
from streamlab.probe.run import ProbeResult, Wish, examine
from streamlab.probe.target import find

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.needs("linux")

HERE = Path(__file__)
OUTSIDE = [each for each in QUESTIONS if each not in MEMORY]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The tests' server, with a file of 4 MiB, of which its small buffers take a part."""
    folder = tmp_path_factory.mktemp("probed")
    random_file(4 * MiB, folder=folder)
    with Server(HERE.parents[1] / "servers" / "probed.py", folder, ready=20) as running:
        yield running


@pytest.fixture(autouse=True)
def least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a file of 2 MiB for large enough: the server's buffers are small."""
    monkeypatch.setattr(run, "connection_buffer", lambda **_: 0)
    monkeypatch.setattr(judge, "least_size", lambda _: 2 * MiB)


@pytest.fixture
def right(server: Server) -> ProbeResult:
    """What is found of the right server, once for all tests."""
    if not RIGHT:
        RIGHT.append(probed(server, "/right"))
    return RIGHT[0]


RIGHT: list[ProbeResult] = []


def probed(server: Server, path: str, *only: str, pid: int | None = None) -> ProbeResult:
    """What the probe finds at a path, with four clients at most."""
    wish = Wish(only or tuple(QUESTIONS), Plan((1, 4), patience=0.5))
    number = server.pid if pid is None else pid or None
    return examine(find(server.url + path, number), budget(), wish)


def budget() -> Budget:
    return Budget(most_seconds=600, patience=20)


def test_a_right_server(right: ProbeResult) -> None:
    """Nothing is wrong, and the figures are those of a loop over pieces."""
    found = right
    assert found.bad == [], found
    assert [each.id for each in found.rows] == list(QUESTIONS)
    assert found.file_size == 4 * MiB
    assert found.memory_per_client is not None and found.memory_per_client < MiB
    assert found.read_ahead is not None and found.read_ahead < MiB
    assert found.descriptors_left == 0
    assert found.row("ranges").outcome == "open"  # it has none, which is allowed
    assert 0 < float(found.row("first-byte").figures["first_byte_share"] or 0) < 1
    text = str(found)
    assert "it closes" not in text and "a second request is in step" in text


@pytest.mark.parametrize(
    ("path", "row", "words"),
    [
        ("/load-all", "growth", "x the file: the server holds what it sends"),
        ("/reads-on", "backpressure", "the server reads on, into somewhere else than memory"),
        ("/leaks", "leaving", "4 descriptors behind"),
        ("/wrong-length", "framing", "more bytes come than Content-Length tells"),
        ("/wrong-range", "ranges", "is something else in the file"),
        ("/head-with-body", "head", "a body follows"),
    ],
)
def test_one_mistake_is_told_in_one_row(server: Server, path: str, row: str, words: str) -> None:
    """Each question has a server that fails it alone."""
    found = probed(server, path)
    assert found.bad == [row], found
    assert words in found.row(row).verdict.text
    assert not found.row(row).verdict.holds


def test_without_a_process(server: Server) -> None:
    """What needs the process is not measured, and says so; the rest is."""
    found = probed(server, "/load-all", pid=0)
    assert found.bad == []
    assert "--pid" in found.row("growth").verdict.text
    assert found.row("backpressure").verdict.text.startswith("seen from outside alone")
    assert int(found.row("backpressure").figures["in_kernel_bytes"] or 0) > 64 * KiB
    assert found.memory_per_client is None and found.read_ahead is None
    assert found.descriptors_left is None


def test_an_answer_without_a_length(server: Server) -> None:
    """It is allowed, but a client can't tell its end from a break."""
    found = probed(server, "/no-length", "framing", "first-byte")
    assert found.row("framing").outcome == "open"
    assert "a break looks the same" in found.row("framing").verdict.text


# Bad input


def error_of(*arguments: str) -> str:
    """The one line that the command says."""
    with pytest.raises(ProbeError) as raised:
        CliRunner().invoke(cli.app, ["probe", *arguments], catch_exceptions=False)
    [line] = str(raised.value).splitlines()
    return line


def test_what_is_no_target(server: Server, closed_port: int) -> None:
    """A wrong address is told in one line that says what to do."""
    assert "nobody listens" in error_of(f"http://127.0.0.1:{closed_port}/a")
    assert "without TLS" in error_of("https://127.0.0.1/a")
    assert "write it like" in error_of("127.0.0.1:8000/a")
    assert "is no URL" in error_of("http://127.0.0.1:99999/a")
    assert "%20" in error_of("http://127.0.0.1/a b")
    assert "--i-own-this-host" in error_of("http://192.0.2.1/a")
    assert "leave it out" in error_of("http://me@127.0.0.1/a")
    assert "another one" in error_of("http://192.0.2.1/a", "--pid=1", "--i-own-this-host")
    assert "404" in error_of(f"{server.url}/nothing")
    assert "give the URL '/right'" in error_of(f"{server.url}/moved")
    assert "64 KiB" in error_of(f"{server.url}/small")
    small = error_of(f"{server.url}/small", f"--pid={server.pid}")
    assert "2 MiB" in small and "--only framing" in small
    assert "no question 'speed'" in error_of(f"{server.url}/right", "--only=speed")
    assert "raise --bytes" in str(probed_with(server, Budget(most_bytes=MiB)))


def probed_with(server: Server, budget: Budget) -> ProbeError | ProbeResult:
    try:
        return examine(find(f"{server.url}/right", server.pid), budget, Wish(plan=Plan((1, 3))))
    except ProbeError as error:
        return error


def test_a_limit_leaves_rows_that_say_so(server: Server) -> None:
    """What was measured before it is reached is kept."""
    found = probed_with(server, Budget(most_connections=3))
    assert isinstance(found, ProbeResult)
    assert found.bad == []
    assert found.row("framing").outcome == "open"
    assert "raise --connections" in found.row("ranges").verdict.text
    assert "raise --seconds" in str(probed_with(server, Budget(most_seconds=0.0001)))


def test_a_wrong_process(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must hold the socket that listens; the error names the one that does."""
    url = f"{server.url}/right"
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            wrong = error_of(url, f"--pid={other.pid}")
        finally:
            other.kill()
    assert f"does not hold the socket that listens on port {server.url.rpartition(':')[2]}" in wrong
    assert f"--pid {server.pid} (python" in wrong
    assert f"--pid {server.pid}" in error_of(url, f"--pid={other.pid}")  # it has ended
    assert "there is no process 0" in error_of(url, "--pid=0")

    def refuse(_: int) -> list[str]:
        raise MeterError("not yours")

    monkeypatch.setattr(target, "open_files", refuse)
    assert "run the probe as that user or as root" in error_of(url, f"--pid={server.pid}")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP/1: its answer begins with b'SSH-2"),
        (b"", "does it speak TLS?"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length is '-1'"),
    ],
)
def test_what_does_not_speak_http(sent: bytes, words: str) -> None:
    """The error says so, and shows how its answer begins."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):  # the first connection only looks whether anybody listens
                with listener.accept()[0] as connection:
                    if connection.recv(4096):
                        connection.sendall(sent)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert words in error_of(f"http://127.0.0.1:{listener.getsockname()[1]}/a")
        thread.join(20)


def test_a_host_that_is_not_this_machine_gets_few_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only with leave, and four clients at most."""
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    found = find("http://192.0.2.1/a", own_host=True)
    assert (found.address, found.port, found.pid) == ("192.0.2.1", 80, None)
    assert run.plan_for(found, Plan()).steps == (1, 2, 4)


def test_nothing_but_get_and_head_is_sent(server: Server) -> None:
    """A client refuses any other method."""
    with Client(find(f"{server.url}/right"), Budget()) as client, pytest.raises(ValueError):
        client.ask("POST")


# What comes out


def test_the_command(server: Server, tmp_path: Path) -> None:
    """Table, commands, JSON and page tell the same; the exit status says whether all is well."""
    page = tmp_path / "page.html"
    options = [f"{server.url}/head-with-body", "--only=head", "--only=framing"]
    ran = CliRunner().invoke(cli.app, ["probe", *options, "--curl", f"--page={page}"])
    assert ran.exit_code == 1, ran.output
    assert "no  HEAD" in ran.output and "ok  Where an answer ends" in ran.output
    assert f"curl -q -sI {server.url}/head-with-body" in ran.output
    assert "a body follows" in page.read_text()
    ran = CliRunner().invoke(cli.app, ["probe", f"{server.url}/right", "--only=head", "--json"])
    assert ran.exit_code == 0
    [row] = json.loads(ran.stdout)["rows"]
    assert (row["id"], row["outcome"], row["figures"]["status"]) == ("head", "good", 200)


def test_every_key_is_documented(right: ProbeResult) -> None:
    """`docs/probe.md` names each key of the JSON."""
    found = as_json(right)
    keys = {*found, *(key for row in found["rows"] for key in (*row, *row["figures"]))}
    keys = {key for key in keys if not key.startswith("memory_with_")} | {
        "memory_with_N_clients_bytes"
    }
    text = (HERE.parents[2] / "docs" / "probe.md").read_text()
    assert sorted(key for key in keys if f"`{key}`" not in text) == []


def test_the_page_escapes_what_a_server_says(right: ProbeResult) -> None:
    """Nothing that is told becomes markup, and the page has no script."""
    page = as_page(replace(right, url="http://127.0.0.1/<script>", notes=("<b>&",)))
    assert "<script" not in page and html.escape("<script>") in page and "&lt;b&gt;&amp;" in page
    assert "prefers-color-scheme: dark" in page


def test_ctrl_c_ends_it_cleanly() -> None:
    """One line, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        command = [sys.executable, "-c", "from streamlab.cli import main; main()", "probe", url]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        with silent.accept()[0], silent.accept()[0] as asked:  # the first one only looks
            assert asked.recv(4096).startswith(b"GET /a HTTP/1.1\r\n")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "streamlab: stopped, all connections are closed"
    assert "Traceback" not in errors


def test_the_fixture(server: Server, pytester: pytest.Pytester) -> None:
    """A suite of the reader's own asserts on figures, and a failure shows the rows."""
    pytester.makeconftest('pytest_plugins = ["streamlab.probe.pytest_plugin"]')
    pytester.makepyfile(
        f"""
        URL, PID = {server.url!r}, {server.pid}

        def test_right(probe):
            result = probe(URL + "/right", pid=PID, only=["head", "framing", "first-byte"])
            assert not result.bad, result

        def test_wrong(probe):
            result = probe(URL + "/head-with-body", only=["head"])
            assert not result.bad, result
        """
    )
    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*/head-with-body: HEAD: a body follows*"])


def test_the_function_of_the_fixture(server: Server) -> None:
    """It takes the number of clients, and returns the memory of one."""
    found = run_probe(f"{server.url}/right", server.pid, only=["growth"], clients=3)
    assert [each.id for each in found.rows] == ["growth"]
    assert found.memory_per_client is not None and found.memory_per_client < 4 * MiB
    assert found.pid == server.pid
