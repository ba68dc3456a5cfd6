"""nginx as a server of a lesson: `python -m streamlab.process.nginx FILE --root DIR --port N`.

FILE has what stands in nginx's `http` block. Filled in are `PORT` in `listen PORT;`, and `ROOT`,
the folder of the files. The process writes the line that tells where it listens, and becomes nginx
with one worker. Its temporary files lie in the folder that `STREAMLAB_SCRATCH` names.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from streamlab.executables import tool
from streamlab.process.server import Server
from streamlab.serve import HOST, announce, arguments

SCRATCH = "STREAMLAB_SCRATCH"
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx(Server):
    """nginx, with `file` as its configuration (see above), as a server of the course."""

    @property
    def command(self) -> list[str]:
        file, root = self.file.as_posix(), self.root.as_posix()
        module = ["python", "-m", "streamlab.process.nginx"]
        return [*module, file, f"--root={root}", f"--port={self.port}"]

    _scratch = ""

    def stop(self) -> None:
        super().stop()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = ""

    def _launch(self) -> None:
        tool("nginx")  # raises `ToolError` if it is not installed
        self._scratch = tempfile.mkdtemp(prefix="streamlab-nginx-")
        environment = {**self.environment, SCRATCH: self._scratch}
        self.conditions = replace(self.conditions, environment=environment)
        super()._launch()


def configuration(inside: str, port: int, scratch: str) -> str:
    """A whole configuration of nginx around what stands in its `http` block."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    places = "".join(f"  {kind}_temp_path {scratch}/{kind};\n" for kind in _KINDS)
    return (
        f"{user}worker_processes 1;\nworker_rlimit_nofile 4096;\ndaemon off;\n"
        f"pid {scratch}/pid;\nerror_log stderr crit;\n"
        "events { worker_connections 2048; }\n"
        f"http {{\n{places}  access_log off;\n  default_type application/octet-stream;\n"
        f"{inside.replace('listen PORT;', f'listen {HOST}:{port} backlog=2048;')}\n}}\n"
    )


def main() -> None:
    """Become nginx with the configuration that the command line names."""
    file = sys.argv.pop(1)
    options = arguments()
    # Bound all the time, so no other program gets the port before nginx listens on it.
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind((HOST, options.port))
    kept.set_inheritable(True)
    port = kept.getsockname()[1]
    scratch = os.environ[SCRATCH]
    complete = Path(scratch, "nginx.conf")
    inside = Path(file).read_text(encoding="utf-8").replace("ROOT", os.path.abspath(options.root))
    complete.write_text(configuration(inside, port, scratch), encoding="utf-8")
    announce(port)
    program = tool("nginx")
    os.execv(program, [program, "-e", "stderr", "-p", scratch, "-c", str(complete)])


if __name__ == "__main__":
    main()
