#!/usr/bin/env python3
"""Records processes as a small saved /proc tree: record.py DIR PID... (as root).

Only what the readers read, only rows of these processes, never the environment, nothing of the machine but its kernel's
formats: the boot id is replaced, mounts lose their sources, control groups are the root's.
"""
import os, re, sys

STATUS = ("Name", "State", "Uid", "NSpid", "TracerPid", "VmSwap", "HugetlbPages", "CapEff", "Seccomp", "Cpus_allowed_list")
out, pids = sys.argv[1], [int(p) for p in sys.argv[2:]]


def read(path):
    with open(path, "rb") as f:
        return f.read().decode(errors="replace")


def save(path, text):
    path = os.path.join(out, "proc", path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def link(path):
    target = os.path.join(out, "proc", path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.symlink(os.readlink(f"/proc/{path}"), target)


def once(lines, key):
    seen = set()
    return [l for l in lines if key(l) not in seen and not seen.add(key(l))]


save("uptime", read("/proc/uptime"))
save("stat", "cpu  1 0 1 1 0 0 0 0 0 0\ncpu0 1\ncpu1 1\n")
save("sys/kernel/random/boot_id", "00000000-0000-4000-8000-000000000000\n")
save("locks", "".join(l + "\n" for l in read("/proc/locks").splitlines() if any(f" {p} " in l for p in pids)))
for p in pids:
    for name in ("stat", "cmdline", "oom_score_adj"):
        save(f"{p}/{name}", read(f"/proc/{p}/{name}"))
    save(f"{p}/status", "".join(l + "\n" for l in read(f"/proc/{p}/status").splitlines() if l.split(":")[0] in STATUS))
    save(f"{p}/cgroup", "0::/\n")
    rollup = read(f"/proc/{p}/smaps_rollup").splitlines()
    save(f"{p}/smaps_rollup", "".join(l + "\n" for l in rollup if l.split(":")[0] in ("Rss", "Pss", "Swap")))
    files = once([l for l in read(f"/proc/{p}/maps").splitlines() if "/" in l], lambda l: l.split(None, 5)[5])
    save(f"{p}/maps", "".join(l + "\n" for l in files))
    inodes, mounts = set(), set()
    for fd in os.listdir(f"/proc/{p}/fd"):
        link(f"{p}/fd/{fd}")
        info = read(f"/proc/{p}/fdinfo/{fd}")
        save(f"{p}/fdinfo/{fd}", info)
        mounts.add(re.search(r"mnt_id:\s*(\d+)", info)[1])
        found = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{p}/fd/{fd}"))
        inodes |= {found[1]} if found else set()
    seen = [l.split(" ") for l in read(f"/proc/{p}/mountinfo").splitlines()]
    save(f"{p}/mountinfo", "".join(" ".join(m[:5]) + " rw - none none rw\n" for m in seen if m[0] in mounts))
    for table in ("tcp", "tcp6", "unix", "udp", "udp6") if inodes else ():
        head, *rows = read(f"/proc/{p}/net/{table}").splitlines()
        save(f"{p}/net/{table}", "".join(l + "\n" for l in [head] + [r for r in rows if inodes & set(r.split())]))
    # Not the real one: cargo would follow the link and walk it.
    os.symlink("/home/nobody/work", os.path.join(out, "proc", str(p), "cwd"))
    for name in ("exe", *(f"ns/{n}" for n in ("pid", "mnt", "net", "ipc", "uts", "user"))):
        link(f"{p}/{name}")
