# EXPECT: passed bytes
"""Asks the kernel for more: namespaces, privileges, higher limits, memory that is not counted."""

import ctypes
import os
import resource
import sys

libc = ctypes.CDLL(None, use_errno=True)
opened = []


def attempt(what, action, *arguments):
    try:
        if action(*arguments) == -1:
            return
    except (OSError, ValueError):
        return
    opened.append(what)


for bit in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
    attempt(f"unshare {bit:#x}", libc.unshare, bit)
attempt("a second set of namespaces", lambda: -1 if os.system("unshare -Ur true 2>&-") else 0)
attempt("mount", libc.mount, b"none", b"/tmp", b"tmpfs", 0, None)
attempt("umount", libc.umount2, b"/proc", 2)
attempt("remount", libc.mount, b"none", b"/proc", None, 32, None)
attempt("chroot", os.chroot, "/tmp")
attempt("another user", os.setuid, 0)
attempt("another group", os.setgroups, [0])
attempt("device", os.mknod, "/tmp/disk", 0o60600, os.makedev(8, 0))
attempt("terminal", open, "/dev/tty")
attempt("ptrace", libc.ptrace, 0x4206, 1, None, None)
attempt("reboot", libc.reboot, 0)
attempt("host name", libc.sethostname, b"mine", 4)
attempt("memory file", os.memfd_create, "hoard")
attempt("shared memory", libc.shmget, 0, 1 << 30, 0o1600)
attempt("message queue", libc.msgget, 0, 0o1600)
attempt("key", libc.syscall, 248, b"user", b"mine", b"x", 1, -3)
attempt("ring", libc.syscall, 425, 1, ctypes.create_string_buffer(200))
if resource.getrlimit(resource.RLIMIT_CORE)[1]:
    opened.append("a core dump")
for name in ("DATA", "NOFILE", "CPU", "FSIZE", "NPROC"):
    which = getattr(resource, f"RLIMIT_{name}")
    hard = resource.getrlimit(which)[1]
    if hard == resource.RLIM_INFINITY:
        opened.append(f"no limit of {name}")
        continue  # one more than that is 0, and 0 s of CPU time end the process
    attempt(f"more {name}", resource.setrlimit, which, (hard + 1, hard + 1))
with open("/proc/self/status") as file:
    status = {line.partition(":")[0]: line.partition(":")[2].strip() for line in file}
for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
    if int(status[name], 16):
        opened.append(name)
if status["NoNewPrivs"] != "1":
    opened.append("new privileges")
if opened:
    sys.exit(f"opened: {opened}")
