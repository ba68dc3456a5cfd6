"""nginx as a server of a lesson."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamlab import DownloadError, ToolError, download, random_file
from streamlab.process.memory import deleted_files, memory_of
from streamlab.process.nginx import SCRATCH, Nginx, configuration

FILES = "server { listen PORT; location / { root ROOT; } }"


def test_what_is_filled_in() -> None:
    """A port, and a folder for each kind of temporary file."""
    text = configuration(FILES, 4711, "/scratch")
    assert "listen 127.0.0.1:4711 " in text
    assert text.count("/scratch/") == 6  # five kinds, and its number
    assert text.count("{") == text.count("}")


@pytest.mark.needs("linux", "nginx")
def test_nginx_serves_and_leaves_nothing(tmp_path: Path) -> None:
    """It has the files of its root, starts again as any server, and its scratch folder goes."""
    file = random_file(100_000, "a.bin", folder=tmp_path / "files")
    (tmp_path / "front.conf").write_text(FILES)
    with Nginx(tmp_path / "front.conf", tmp_path / "files") as server:
        assert download(server.url + "/a.bin", file.path).size == 100_000
        first, scratch = server.pid, Path(server.environment[SCRATCH])
        assert memory_of(server.pid).private > 0
        assert deleted_files(server.pid) == []
        server.restart()
        assert server.pid != first
        assert download(server.url + "/a.bin", file.path).size == 100_000
        assert not scratch.exists()
        scratch = Path(server.environment[SCRATCH])
    assert not scratch.exists()
    with pytest.raises(DownloadError):
        download(server.url + "/a.bin", timeout=1)


@pytest.mark.needs("linux")
def test_without_nginx_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that has it is named."""
    monkeypatch.setattr("streamlab.executables.shutil.which", lambda *_, **__: None)
    (tmp_path / "front.conf").write_text(FILES)
    with pytest.raises(ToolError, match="nginx is not installed here \\(package nginx-light\\)"):
        Nginx(tmp_path / "front.conf", tmp_path).start()
