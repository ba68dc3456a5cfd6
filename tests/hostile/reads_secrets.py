# EXPECT: passed bytes
"""Reads what belongs to others: files, environments, open files of other processes."""

import os
import sys

SECRETS, WORD = (
    "@SECRETS@",
    "@WORD@",
)  # paths, and a text that all of them contain
taken = []


def take(path):
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            return
        with open(path, "rb") as file:
            text = file.read(1 << 20)
    except OSError:
        return
    if WORD.encode() in text:
        taken.append(path)


for path in SECRETS:
    for way in ("", "/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/../../../../.."):
        take(way + path)
        if os.path.isdir(way + path) and os.listdir(way + path):
            taken.append(way + path)
for folder in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/ssl/private", "/sys", "/run"):
    if os.path.exists(folder):
        taken.append(folder)
for name in os.listdir("/proc"):
    for file in ("environ", "cmdline", "maps"):
        if name.isdecimal():
            take(f"/proc/{name}/{file}")
    if name.isdecimal() and name != str(os.getpid()):
        try:
            for descriptor in os.listdir(f"/proc/{name}/fd"):
                take(f"/proc/{name}/fd/{descriptor}")
        except OSError:
            pass
if WORD in os.environ.values() or any("PYTEST" in each for each in os.environ):
    taken.append("environment")
if taken:
    sys.exit(f"taken: {taken}")
