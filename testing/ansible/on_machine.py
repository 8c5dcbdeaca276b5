"""Runs the role on a virtual machine of testing/vm: an NVMe disk, systemd, AppArmor in force, and an enabled server of the image."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import shard
from recovery import BIN, PLAYBOOK, ROOT

SERIAL = "vol0123456789abcdef0"
VOLUME = "vol-0123456789abcdef0"
INSTANCE = "i-0123456789abcdef0"
PORT = int(os.environ.get("BACKSTOP_VM_PORT", "2222"))
# Software emulation is slow: a boot takes minutes.
BOOT = 600


class Machine:
    def __init__(self, folder):
        self.folder = folder
        self.known = folder / "known_hosts"
        self.known.write_text("machine " + (folder / "host-key.pub").read_text())

    def start(self, volume):
        shard.run(ROOT / "testing/vm", "start", volume, SERIAL)

    def stop(self):
        shard.run(ROOT / "testing/vm", "stop")

    def run(self, *command, timeout=300):
        options = ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={self.known}", "-o", "HostKeyAlias=machine", "-o", "ConnectTimeout=30"]
        return subprocess.run(["ssh", "-i", str(self.folder / "key"), "-p", str(PORT), *options, "root@127.0.0.1", *command], capture_output=True, text=True,
                              timeout=timeout, check=False)

    def said(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def await_boot(self):
        begin = time.monotonic()
        while self.run("true").returncode != 0:
            assert time.monotonic() - begin < BOOT, "no boot within {} s: see {}".format(BOOT, self.folder / "console")
            time.sleep(2)
        while self.run("systemctl is-active mysql").stdout.strip() != "active":
            assert time.monotonic() - begin < BOOT, self.said("systemctl status --no-pager mysql; true")
            time.sleep(2)
        print(f"booted, and the server of the image runs, after {time.monotonic() - begin:.0f} s", flush=True)

    def play(self, primary, *arguments):
        given = {
            "ansible_host": "127.0.0.1", "ansible_port": PORT, "ansible_user": "root", "ansible_ssh_private_key_file": str(self.folder / "key"),
            "ansible_python_interpreter": "/usr/bin/python3", "backstop_instance_id": INSTANCE,
            "backstop_host_keys": [(self.folder / "host-key.pub").read_text().strip()], "backstop_recovery_id": "r1", "backstop_data_folder": "data",
            "backstop_volumes": [{"volume_id": VOLUME, "mount_points": ["/var/lib/mysql"]}], "backstop_gtid_executed": primary.held,
            "backstop_options": {"innodb_buffer_pool_size": "64M", "mysqlx": "OFF"}, "backstop_options_here": {"secure_file_priv": "NULL"},
            # The address of this host in the machine's network.
            "backstop_primary_host": "10.0.2.2", "backstop_primary_port": primary.port, "backstop_mysql_user": "backstop",
            "backstop_mysql_password": shard.PASSWORD, "backstop_connect_timeout": BOOT,
        }
        inventory = self.folder / "inventory.yml"
        inventory.write_text(json.dumps({"mysql": {"hosts": {"db": given}}}))
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1", "ANSIBLE_TIMEOUT": "60"}
        command = [str(BIN / "ansible-playbook"), "-i", str(inventory), str(PLAYBOOK), *arguments]
        done = subprocess.run(command, cwd=PLAYBOOK.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, check=False)
        print(done.stdout, flush=True)
        assert done.returncode == 0 and shard.PASSWORD not in done.stdout
        return done.stdout


def runs_alone(machine):
    """The recovered server runs in its unit, confined, on the NVMe disk, and no other does."""
    assert machine.said("systemctl is-active mysql; systemctl is-enabled mysql").split() == ["active", "enabled"]
    (pid,) = machine.said("pidof mysqld").split()
    assert machine.said(f"readlink /proc/{pid}/cwd") == "/var/lib/mysql/data"
    assert "/usr/sbin/mysqld (enforce)" in machine.said(f"cat /proc/{pid}/attr/current")
    assert machine.said("findmnt -n -o SOURCE /var/lib/mysql").startswith("/dev/nvme")
    denied = machine.run("journalctl -k --no-pager | grep DENIED | grep mysqld").stdout
    print("denied by AppArmor:", denied or "nothing", flush=True)


def equal(machine, primary):
    """It holds what the primary holds, and is read-only."""
    primary.rest()
    held = shard.value(primary.socket, "SELECT @@GLOBAL.gtid_executed")
    ask = "mysql --socket=/run/mysqld/mysqld.sock -N -B -e"
    # The same accounts as on the primary: root has no password.
    shard.until(lambda: machine.said(f"{ask} 'SELECT @@GLOBAL.gtid_executed'").replace("\\n", "") == held, "it holds all that the primary holds")
    sums = shard.rows(primary.socket, "CHECKSUM TABLE app.t")[0][1]
    assert machine.said(f"{ask} 'CHECKSUM TABLE app.t'").split()[1] == str(sums) and sums
    assert machine.said(f"{ask} 'SELECT @@super_read_only'") == "1"
    primary.begin()


def main():
    machine = Machine(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        primary = shard.Primary(pathlib.Path(folder))
        try:
            shard.until(lambda: int(shard.value(primary.socket, "SELECT COUNT(*) FROM app.t")) > 50, "load")
            volume = primary.folder / "volume.img"
            primary.held = primary.snapshot(volume)
            machine.start(volume)
            machine.await_boot()
            assert machine.said("readlink /proc/$(pidof mysqld)/cwd") == "/var/lib/mysql", "the image's own server"
            machine.play(primary)
            runs_alone(machine)
            equal(machine, primary)
            assert "changed=0 " in machine.play(primary), "a second run changes nothing"
            # The mount in fstab, the unit and the options hold over a boot.
            machine.run("systemctl reboot")
            shard.until(lambda: machine.run("true").returncode != 0, "it goes down")
            machine.await_boot()
            runs_alone(machine)
            print("passed", flush=True)
        finally:
            machine.stop()
            primary.end()


if __name__ == "__main__":
    main()
