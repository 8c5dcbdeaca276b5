"""A dedicated instance: its own processes, programs that stand in for the host's, and the image's own MySQL server."""

import json
import os
import subprocess

import shard

# https://www.freedesktop.org/software/systemd/man/latest/systemctl.html, as far as Ansible asks: one unit, `mysqld`.
SYSTEMCTL = """#!/usr/bin/env python3
import json, os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path({folder!r})
state = json.loads((folder / "unit").read_text())
words = [word for word in sys.argv[1:] if not word.startswith("-")]
with open(folder / "systemctl.log", "a") as log:
    log.write(" ".join(words) + chr(10))

def pids():
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder) + "/" in (entry / "cmdline").read_text() and "--argv0" in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except OSError:
            pass
    return found

def start(options):
    subprocess.Popen([{program!r}, "--defaults-file=" + options], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)

verb = words[0]
if verb == "show":
    print("Id=mysqld.service")
    print("LoadState=" + ("masked" if state["masked"] else "loaded"))
    print("ActiveState=" + ("active" if pids() else "inactive"))
    print("UnitFileState=" + ("masked" if state["masked"] else "enabled"))
elif verb == "is-enabled":
    print("masked" if state["masked"] else "enabled")
    sys.exit(1 if state["masked"] else 0)
elif verb == "is-active":
    print("active" if pids() else "inactive")
    sys.exit(0 if pids() else 3)
elif verb in ("mask", "unmask"):
    state["masked"] = verb == "mask"
elif verb == "stop":
    for pid in pids():
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 60
    while pids() and time.monotonic() < until:
        time.sleep(0.1)
elif verb == "start":
    if state["masked"]:
        sys.exit("Failed to start mysqld.service: Unit mysqld.service is masked.")
    if not pids():
        start(state["options"])
(folder / "unit").write_text(json.dumps(state))
"""
SERVERS = """#!/usr/bin/env python3
import os
for entry in filter(str.isdigit, os.listdir("/proc")):
    try:
        if b"--argv0\\0mysqld\\0" in open(f"/proc/{entry}/cmdline", "rb").read():
            print(os.readlink(f"/proc/{entry}/cwd"))
    except OSError:
        pass
"""
# Notes its arguments; the second definition of a context is refused, as `semanage` does.
SEMANAGE = """#!/bin/sh
echo "$0 $*" >>{folder}/selinux
[ "$(grep -cxF "$0 $*" {folder}/selinux)" = 1 ] || case $0 in *semanage) echo "File context for $6 already defined" >&2; exit 1;; esac
"""


class Dedicated:
    """Runs Ansible where no process of this host is seen, beside a server that the image has started on the root disk."""

    def __init__(self, instance):
        self.instance, self.folder = instance, instance.folder
        self.options = self.folder / "my.cnf"
        bin = self.folder / "bin"
        bin.mkdir()
        self.write(bin / "systemctl", SYSTEMCTL.format(folder=str(self.folder), program=shard.PROGRAM))
        self.write(bin / "servers", SERVERS)
        for name in ("semanage", "restorecon"):
            self.write(bin / name, SEMANAGE.format(folder=self.folder))
        (self.folder / "unit").write_text(json.dumps({"masked": False, "options": str(self.options)}))
        holder = ["unshare", "--pid", "--fork", "--mount", "--propagation", "unchanged", "--mount-proc", "sh", "-c", "while :; do sleep 1; done"]
        self.holder = subprocess.Popen(holder, start_new_session=True, stderr=subprocess.DEVNULL)
        children = lambda: subprocess.run(["pgrep", "-P", str(self.holder.pid)], capture_output=True, text=True, check=False).stdout.split()
        shard.until(children, "the processes of the instance")
        self.within = ["nsenter", "-t", children()[0], "-p", "-m", "env", f"PATH={bin}:{os.environ['PATH']}"]

    @staticmethod
    def write(path, text):
        path.write_text(text)
        path.chmod(0o755)

    def start_image_server(self):
        """Initialises and starts a server on the directory that the volume will be mounted on."""
        datadir = self.instance.mount / "data"
        self.instance.mount.mkdir()
        (self.folder / "image.cnf").write_text(
            f"[mysqld]\ndatadir={datadir}\nsocket={self.folder}/image.sock\nport={shard.free_port()}\nuser=root\nmysqlx=OFF\n"
            f"innodb_redo_log_capacity=16M\nsecure_file_priv=NULL\nlog_error={self.folder}/image.log\npid_file={self.folder}/image.pid\n")
        self.options.write_text((self.folder / "image.cnf").read_text())
        shard.run(shard.PROGRAM, f"--defaults-file={self.options}", "--initialize-insecure")
        self.run("systemctl", "start", "mysqld")
        shard.until((self.folder / "image.sock").exists, "the image's server runs")

    def run(self, *command):
        return shard.run(*self.within, *command)

    def servers(self):
        """Returns the data directories of the running servers."""
        return self.run(self.folder / "bin/servers").split()

    def said(self, name):
        file = self.folder / name
        return file.read_text() if file.exists() else ""

    def end(self):
        subprocess.run(["pkill", "-9", "-P", str(self.holder.pid)], check=False)
        self.holder.wait()
