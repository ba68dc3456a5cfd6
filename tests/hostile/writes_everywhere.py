# EXPECT: passed bytes
"""Writes where it may not: marks, checks, packages, the files that it serves, itself.

Existing files it only opens for writing, except files made to be attacked: if it succeeds, it must
not damage the machine of the person that runs the tests.
"""

import os
import site
import sys
import sysconfig

SECRETS = "@SECRETS@"
written = []


def attempt(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return
    written.append(f"{action.__name__} {arguments[0]}")


def open_to_write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))


def make(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)


def make_folder(path):
    os.mkdir(path)
    os.rmdir(path)


root = sys.argv[1].partition("=")[2]
paths = sysconfig.get_paths()
places = [root, os.path.dirname(root), os.getcwd(), os.path.dirname(__file__), "/", "/usr", "/etc"]
places += ["/dev", "/proc", "/usr/bin", "/usr/local/bin", "/var", "/home", "/root", "/run"]
places += [paths["stdlib"], paths["purelib"], paths["platlib"], paths["scripts"], sys.prefix]
places += site.getsitepackages()
files = [__file__, sys.executable, "/bin/sh", os.__file__, *SECRETS]
try:
    import streamlab

    places.append(os.path.dirname(streamlab.__file__))
    files += [streamlab.__file__, os.path.join(places[-1], "checks.py")]
except ImportError:
    pass
for place in places:
    attempt(make, f"{place}/streamlab-test-of-writing.pth")
    attempt(make_folder, f"{place}/streamlab-test-of-writing")
for where, _folders, names in os.walk("/proc/sys"):
    files += [f"{where}/{name}" for name in names]
files += [f"/proc/{name}" for name in ("sysrq-trigger", "1/oom_score_adj", "1/mem", "mtrr")]
for path in files:
    attempt(open_to_write, path)
for path in SECRETS:
    if os.path.isfile(path):
        attempt(os.unlink, path)
if written:
    sys.exit(f"written: {written[:20]}")
