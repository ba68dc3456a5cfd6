# EXPECT: passed bytes
"""Writes where it has no business: marks, checks, packages, the files that it serves, itself."""

import os
import site
import sys
import sysconfig

SECRETS = "@SECRETS@"
written = []


def attempt(what, action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return
    written.append(what)


def write(path):
    with open(path, "a") as file:
        file.write("import os\n")


root = sys.argv[1].partition("=")[2]
paths = sysconfig.get_paths()
places = [root, os.path.dirname(root), os.getcwd(), os.path.dirname(__file__), "/", "/usr", "/etc"]
places += ["/dev", "/proc", "/usr/bin", "/usr/local/bin", "/var", "/home", "/root", "/run"]
places += [paths["stdlib"], paths["purelib"], paths["platlib"], paths["scripts"], sys.prefix]
places += site.getsitepackages()
try:
    import streamlab

    places.append(os.path.dirname(streamlab.__file__))
    attempt("streamlab/checks.py", write, os.path.join(places[-1], "checks.py"))
except ImportError:
    pass
for place in places:
    for name in ("sitecustomize.py", "streamlab.pth", "results.jsonl"):
        attempt(f"{place}/{name}", write, f"{place}/{name}")
    attempt(f"{place}/folder", os.mkdir, f"{place}/folder-of-mine")
for path in (*SECRETS, __file__, sys.executable, "/bin/sh"):
    attempt(path, write, path)
    attempt(path, os.unlink, path)
    attempt(path, os.rename, path, path + ".old")
for where, _folders, files in os.walk("/proc/sys"):
    for name in files:
        attempt(f"{where}/{name}", write, f"{where}/{name}")
for name in ("sysrq-trigger", "1/oom_score_adj", "1/mem", "mtrr"):
    attempt(name, write, f"/proc/{name}")
if written:
    sys.exit(f"written: {written[:20]}")
