"""Runs one step of joining a recovered server to its shard. Each step can be repeated after a kill."""

import json
import os
import ssl
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.backstop.mysql.plugins.module_utils import journal

try:
    import pymysql
except ImportError:
    pymysql = None

DOCUMENTATION = """
module: backstop_join
short_description: Runs one step of joining a recovered server to its shard
description: The steps are ready, compare, forget, own, follow, caught_up and finish, in this order. joined checks a finished recovery.
options:
  step: {description: Step to run., type: str, required: true}
  state: {description: Folder of the journal., type: str, required: true}
  socket: {description: Socket of the server., type: str, required: true}
  datadir: {description: Data directory., type: str, required: true}
  gtid_executed: {description: GTID set of the backup., type: str, default: ""}
  primary_host: {description: Primary to replicate from; if empty, ask orchestrator., type: str, default: ""}
  primary_port: {description: Port of the primary., type: int, default: 3306}
  orchestrator_urls: {description: URLs of the orchestrator nodes., type: list, elements: str, default: []}
  orchestrator_user: {description: User for basic authentication., type: str, default: ""}
  orchestrator_password: {description: Password for basic authentication., type: str, default: ""}
  cluster_name: {description: Alias of the cluster., type: str, default: ""}
  user: {description: Account that queries the primary., type: str, default: ""}
  password: {description: Password of the account., type: str, default: ""}
  replication_user: {description: Account for replication., type: str, default: ""}
  replication_password: {description: Password of the replication account., type: str, default: ""}
  tls: {description: "off, required or verify-identity.", type: str, default: required}
  tls_ca: {description: File of CA certificates., type: str, default: ""}
  start_timeout: {description: Seconds to wait until the server answers., type: int, default: 3600}
  stall_timeout: {description: Seconds without an applied transaction before the step fails., type: int, default: 600}
  report_interval: {description: Seconds after which caught_up returns its progress., type: int, default: 10}
  continued: {description: Progress that the earlier run of caught_up returned., type: dict}
author: The Backstop maintainers (@backstop)
"""

SECRET = ("orchestrator_password", "password", "replication_password")
PATIENCE = 60


class Refused(Exception):
    """Failure whose message is for the user."""


def vocabulary(version):
    """Returns the keywords of a server of this version."""
    new = version >= (8, 0, 23)
    return {
        "replica": "REPLICA" if new else "SLAVE",
        "source": "SOURCE" if new else "MASTER",
        "change": "CHANGE REPLICATION SOURCE TO" if new else "CHANGE MASTER TO",
        "reset": "RESET BINARY LOGS AND GTIDS" if version >= (8, 2, 0) else "RESET MASTER",
    }


def transactions(gtids):
    """Returns the number of transactions of a GTID set: `UUID:1-5:7,UUID:tag:9`."""
    count = 0
    for part in gtids.replace(" ", "").split(","):
        for interval in part.split(":")[1:]:
            first, _, last = interval.partition("-")
            if first.isdigit():
                count += int(last or first) - int(first) + 1
    return count


class Join:
    def __init__(self, given):
        self.given = given
        self.journal = journal.read(given["state"])

    # Steps.

    def ready(self):
        """Waits until the server answers its temporary administrator, that is, until its crash recovery is complete."""
        until = time.monotonic() + self.given["start_timeout"]
        while True:
            try:
                self.connect()
                return False
            except pymysql.Error as error:
                if time.monotonic() > until:
                    raise Refused("the server does not answer on {}: {}".format(self.given["socket"], error))
            time.sleep(0.5)

    def compare(self):
        """Compares the server's GTID set with the backup's, unless a later step has changed it."""
        if self.has("own") or self.has("reset_gtids"):
            return False
        claimed, executed = self.journal["gtid_executed"], self.value("SELECT @@GLOBAL.gtid_executed")
        try:
            missing, extra = self.subtract(claimed, executed), self.subtract(executed, claimed)
        except pymysql.Error:
            raise Refused("`{}` is not a GTID set: set backstop_gtid_executed to the whole set, as in `backstop backups SHARD --latest "
                          "--json`; a tag may hold only its digest".format(claimed))
        if missing or extra:
            raise Refused("the server does not hold what the backup claims: it holds `{}`, the backup claims `{}`; missing `{}`, beyond `{}`. "
                          "Recover from another backup".format(executed, claimed, missing, extra))
        return False

    def forget(self):
        """Removes the replication configuration of the donor."""
        if self.has("follow") or not self.rows("SHOW {replica} STATUS"):
            return False
        self.run("STOP {replica}")
        self.writable(lambda: self.run("RESET {replica} ALL"))
        return True

    def own(self):
        """Sets gtid_purged to the whole GTID set, and removes the donor's binary logs."""
        if self.has("own") or self.has("follow"):
            return False
        claimed = self.journal["gtid_executed"]
        executed, purged = self.value("SELECT @@GLOBAL.gtid_executed"), self.value("SELECT @@GLOBAL.gtid_purged")
        right = not self.subtract(claimed, executed) and not self.subtract(executed, claimed)
        if right and not self.subtract(executed, purged):
            self.note("own")
            return False
        if right:
            # Record this before the reset. After a kill the server's set is empty, and the next run sets the journal's.
            self.note("reset_gtids")
            self.writable(lambda: self.run("{reset}"))
        elif executed or not self.has("reset_gtids"):
            raise Refused("the server's transactions changed: it holds `{}`, and should hold `{}`".format(executed, claimed))
        self.writable(lambda: self.run("SET GLOBAL gtid_purged = %s", claimed))
        self.note("own")
        return True

    def follow(self):
        """Starts replication from the current primary, which must have all transactions of the server and the binary logs of the rest."""
        host, port = self.primary_now()
        held = self.value("SELECT @@GLOBAL.gtid_executed")
        executed, purged, uuid = self.primary(host, port, "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged, @@server_uuid")
        if uuid == self.value("SELECT @@server_uuid"):
            raise Refused("{}:{} is this server, or has its UUID".format(host, port))
        extra, lost = self.subtract(held, executed), self.subtract(purged, held)
        if extra:
            raise Refused("the server holds transactions that the primary {}:{} lacks: `{}`".format(host, port, extra))
        if lost:
            raise Refused("the primary {}:{} has purged binary logs that the backup lacks: `{}`. Recover from a newer backup".format(host, port, lost))
        status = self.status()
        if status and (self.of(status, "Host"), int(self.of(status, "Port"))) == (host, port) and self.threads(status) == {"Yes"}:
            return False
        self.note("follow")
        self.run("STOP {replica}")
        options = ["{source}_HOST=%s", "{source}_PORT=%s", "{source}_USER=%s", "{source}_PASSWORD=%s", "{source}_AUTO_POSITION=1"]
        values = [host, port, self.given["replication_user"], self.given["replication_password"]]
        if self.given["tls"] == "off":
            options += ["{source}_SSL=0", "GET_{source}_PUBLIC_KEY=1"]
        else:
            options += ["{source}_SSL=1"]
            if self.given["tls_ca"]:
                options += ["{source}_SSL_CA=%s"]
                values += [self.given["tls_ca"]]
            if self.given["tls"] == "verify-identity":
                options += ["{source}_SSL_VERIFY_SERVER_CERT=1"]
        self.writable(lambda: self.run("{change} " + ", ".join(options), *values))
        self.run("START {replica}")
        return True

    def caught_up(self):
        """Waits until the server has every transaction that the primary had when the step began, and replicates without errors.

        Returns its progress after `report_interval`; the next run continues with it."""
        status, now = self.following(), time.monotonic()
        so_far = self.given["continued"] or {}
        begun, moved = now - so_far.get("waited", 0), now - so_far.get("stalled", 0)
        report, last = now + self.given["report_interval"], so_far.get("held")
        wanted = so_far.get("wanted")
        if not wanted:
            wanted = self.primary(self.of(status, "Host"), int(self.of(status, "Port")), "SELECT @@GLOBAL.gtid_executed")[0]
        while True:
            status, now = self.following(), time.monotonic()
            errors = self.errors(status)
            if status["Last_SQL_Error"] or errors and now - begun > PATIENCE:
                raise Refused("follow {}: {}".format(self.of(status, "Host"), "; ".join(errors)))
            held = self.value("SELECT @@GLOBAL.gtid_executed")
            missing = self.subtract(wanted, held)
            if not missing and not errors and self.threads(status) == {"Yes"}:
                return {"changed": False}
            if held != last:
                last, moved = held, now
            if now - moved > self.given["stall_timeout"]:
                raise Refused("catch up: nothing applied for {} s; missing `{}`".format(self.given["stall_timeout"], missing))
            if now > report:
                said = "{} transactions to apply until the server has caught up, after {:.0f} s".format(transactions(missing), now - begun)
                return {"changed": False, "progress": {"wanted": wanted, "held": held, "waited": now - begun, "stalled": now - moved,
                                                       "said": "; ".join([said] + errors)}}
            time.sleep(0.3)

    def joined(self):
        """Checks that the server of a finished recovery still replicates."""
        status = self.following()
        errors = self.errors(status)
        if errors or self.threads(status) != {"Yes"}:
            raise Refused("this recovery is finished, and the server does not replicate: {}".format("; ".join(errors) or "replication is stopped"))
        return False

    def finish(self):
        """Removes the temporary administrator. The server stays read-only."""
        # No other step can log in after this, and none needs to.
        self.note("leaving")
        try:
            self.connect()
        except pymysql.Error as error:
            # A run that was killed before its entry in the journal has dropped the account.
            if error.args[0] != 1045:
                raise
        else:
            self.writable(lambda: self.run("DROP USER IF EXISTS 'backstop_recovery'@'localhost'"))
        self.note("finish")
        for name in ("init.sql", "password"):
            if os.path.exists(os.path.join(self.given["state"], name)):
                os.remove(os.path.join(self.given["state"], name))
        return True

    # Parts of the steps.

    def has(self, step):
        return step in self.journal["done"]

    def note(self, step):
        journal.note(self.given["state"], self.journal, step)

    def connect(self):
        """Logs in as the temporary administrator, and after its removal as the account that the shard's servers share."""
        user, password = self.given["user"], self.given["password"]
        if not self.has("leaving") or self.given["step"] == "finish":
            with open(os.path.join(self.given["state"], "password")) as file:
                user, password = "backstop_recovery", file.read()
        self.session = pymysql.connect(unix_socket=self.given["socket"], user=user, password=password, autocommit=True, connect_timeout=10)
        if user == "backstop_recovery":
            self.rows("SET SESSION sql_log_bin = 0")
        version = tuple(int(part) for part in self.value("SELECT @@version").split("-")[0].split("."))
        self.words = vocabulary(version)

    def rows(self, sql, *values):
        for word, meant in getattr(self, "words", {}).items():
            sql = sql.replace("{" + word + "}", meant)
        with self.session.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall()

    run = rows

    def value(self, sql, *values):
        text = list(self.rows(sql, *values)[0].values())[0]
        return text.replace("\n", "") if isinstance(text, str) else text

    def subtract(self, left, right):
        return self.value("SELECT GTID_SUBTRACT(%s, %s)", left, right)

    def writable(self, act):
        self.rows("SET GLOBAL super_read_only = OFF")
        try:
            act()
        finally:
            self.rows("SET GLOBAL super_read_only = ON")

    def status(self):
        found = self.rows("SHOW {replica} STATUS")
        return found[0] if found else None

    def of(self, status, what):
        if what == "Behind":
            return status.get("Seconds_Behind_Source", status.get("Seconds_Behind_Master"))
        return status.get("Source_" + what, status.get("Master_" + what))

    def following(self):
        status = self.status()
        if not status:
            raise Refused("the server does not replicate: its replication was reset")
        return status

    @staticmethod
    def errors(status):
        return [status[key] for key in ("Last_IO_Error", "Last_SQL_Error") if status[key]]

    def threads(self, status):
        return {value for key, value in status.items() if key in ("Replica_IO_Running", "Replica_SQL_Running", "Slave_IO_Running", "Slave_SQL_Running")}

    def primary(self, host, port, sql):
        encrypted = None
        if self.given["tls"] != "off":
            encrypted = ssl.create_default_context(cafile=self.given["tls_ca"] or None)
            encrypted.check_hostname = self.given["tls"] == "verify-identity"
            if self.given["tls"] == "required":
                encrypted.verify_mode = ssl.CERT_NONE
        try:
            session = pymysql.connect(host=host, port=port, user=self.given["user"], password=self.given["password"], ssl=encrypted,
                                      connect_timeout=10, read_timeout=30)
        except (pymysql.Error, RuntimeError) as error:
            raise Refused("log in to the primary {}:{}: {}".format(host, port, error))
        with session, session.cursor() as cursor:
            cursor.execute(sql)
            return [text.replace("\n", "") for text in cursor.fetchone()]

    def primary_now(self):
        """Returns the given primary, or the one recently checked, writable primary that orchestrator reports."""
        if self.given["primary_host"]:
            return self.given["primary_host"], self.given["primary_port"]
        alias, errors = self.given["cluster_name"], []
        for url in self.given["orchestrator_urls"]:
            try:
                login = {"url_username": self.given["orchestrator_user"], "url_password": self.given["orchestrator_password"],
                         "force_basic_auth": True} if self.given["orchestrator_user"] else {}
                # Only the leader's view is current; the other nodes answer 404.
                open_url("{}/api/leader-check".format(url.rstrip("/")), timeout=10, **login)
                answer = open_url("{}/api/cluster/alias/{}".format(url.rstrip("/"), alias), timeout=10, **login)
                seen = json.load(answer) or []
                break
            except Exception as error:  # pylint: disable=broad-except
                errors.append("{}: {}".format(url, error))
        else:
            raise Refused("ask orchestrator for the primary of `{}`: {}".format(alias, "; ".join(errors)))
        found = [one["Key"] for one in seen if one["ReplicationDepth"] == 0 and one["IsLastCheckValid"] and one["IsRecentlyChecked"]
                 and not one["ReadOnly"] and not one["IsDowntimed"]]
        if len(found) != 1:
            raise Refused("orchestrator sees {} fresh, writable primaries of `{}`, not one".format(len(found), alias))
        return found[0]["Hostname"], int(found[0]["Port"])


def main():
    text = {"type": "str", "default": ""}
    module = AnsibleModule({
        "step": {"type": "str", "required": True, "choices": ["ready", "compare", "forget", "own", "follow", "caught_up", "finish", "joined"]},
        **{name: {"type": "str", "required": True} for name in ("state", "socket", "datadir")},
        **{name: text for name in ("gtid_executed", "primary_host", "orchestrator_user", "cluster_name", "user", "replication_user", "tls_ca")},
        **{name: {"type": "str", "default": "", "no_log": True} for name in SECRET},
        "primary_port": {"type": "int", "default": 3306},
        "orchestrator_urls": {"type": "list", "elements": "str", "default": []},
        "tls": {"type": "str", "default": "required", "choices": ["off", "required", "verify-identity"]},
        "start_timeout": {"type": "int", "default": 3600},
        "stall_timeout": {"type": "int", "default": 600},
        "report_interval": {"type": "int", "default": 10},
        "continued": {"type": "dict"},
    }, supports_check_mode=True)
    if module.check_mode and module.params["step"] != "joined":
        # The steps depend on each other, so a check reports only which of them change the server.
        module.exit_json(changed=module.params["step"] in ("forget", "own", "follow", "finish"))
    if pymysql is None:
        module.fail_json(msg="the instance's Python has no PyMySQL: see backstop_packages")
    try:
        join = Join(module.params)
        if join.has("leaving") and module.params["step"] not in ("finish", "joined"):
            module.exit_json(changed=False)
        if module.params["step"] not in ("ready", "finish"):
            join.connect()
        result = getattr(join, module.params["step"])()
        module.exit_json(**(result if isinstance(result, dict) else {"changed": result}))
    except Refused as refused:
        module.fail_json(msg=str(refused))
    except (pymysql.Error, OSError) as error:
        module.fail_json(msg="{}: {}".format(module.params["step"], error))


if __name__ == "__main__":
    main()
