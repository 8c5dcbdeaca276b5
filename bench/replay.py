"""Replay of an archive on a restored backup, against mysqlbinlog piped into mysql and against MySQL's own replication."""

import os
import time

import archive
import lab

TITLE = "Replay"
AIM = "at least 4 times mysqlbinlog | mysql with the same durability, and 0.8 of MySQL's own replication"
SECONDS = 30
RELAXED = "SET GLOBAL innodb_flush_log_at_trx_commit = 2; SET GLOBAL sync_binlog = 0;"


def measure(tools, size):
    with lab.fresh("replay") as folder, lab.loaded_server(tools, size, folder / "data") as server:
        shard = archive.shard(server, folder / "shard")
        backup = shard.backstop("backup")[2]["backup_id"]
        with archive.load(server, size, folder, 8):
            time.sleep(SECONDS)
        shard.backstop("archive", "--until-caught-up")
        wanted = server.sql("SELECT @@GLOBAL.gtid_executed").strip().replace("\n", "")
        replayed = shard.backstop("recover", "--to", "latest", "--into", folder / "r", "--standalone")[2]
        transactions, seconds = replayed["transactions_replayed"], replayed["seconds"]["replay"]
        lab.stop_recovered(folder / "r")
        workers = min(max(2 * (os.cpu_count() or 2), 4), 16)
        rows = [("backstop", seconds),
                (f"MySQL's own replication, {workers} workers", native(shard, server, folder / "n", backup, wanted, workers)),
                ("mysqlbinlog \\| mysql", pipe(tools, shard, server, folder / "p", backup, wanted))]
    base = seconds
    table = [[name, f"{took:.1f} s", f"{transactions / took:.0f}", lab.ratio(took, base)] for name, took in rows]
    return (f"{transactions} transactions of 8 writers, replayed on the same backup, durability relaxed alike.\n\n"
            + lab.table(["", "time", "transactions/s", "time, ratio"], table))


def restored(shard, into, backup):
    """A server as it was at the backup, that takes writes: a client for it."""
    shard.backstop("recover", "--backup", backup, "--into", into, "--standalone")

    def sql(text):
        return lab.run(shard.server.tools / "mysql", "--no-defaults", f"--socket={into}/mysqld.sock", "-uroot", "-N", "-B", "-e",
                       text).stdout
    sql("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF;" + RELAXED)
    return sql


def native(shard, server, into, backup, wanted, workers):
    sql = restored(shard, into, backup)
    server.sql("CREATE USER IF NOT EXISTS rep@'127.0.0.1' IDENTIFIED WITH caching_sha2_password BY 'bench';"
               "GRANT REPLICATION SLAVE ON *.* TO rep@'127.0.0.1'")
    sql(f"SET GLOBAL replica_parallel_workers = {workers}; CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', "
        f"SOURCE_PORT = {server.port}, SOURCE_USER = 'rep', SOURCE_PASSWORD = 'bench', SOURCE_AUTO_POSITION = 1, "
        "GET_SOURCE_PUBLIC_KEY = 1")
    begin = time.monotonic()
    sql(f"START REPLICA; SELECT WAIT_FOR_EXECUTED_GTID_SET('{wanted}', 3600)")
    took = time.monotonic() - begin
    lab.stop_recovered(into)
    return took


def pipe(tools, shard, server, into, backup, wanted):
    sql = restored(shard, into, backup)
    held = sql("SELECT @@GLOBAL.gtid_executed").strip().replace("\\n", "").replace("\n", "")
    names = [line.split("\t")[0] for line in server.sql("SHOW BINARY LOGS").splitlines()]
    files = " ".join(f"'{server.datadir / name}'" for name in names)
    begin = time.monotonic()
    lab.run("sh", "-c", f"'{tools / 'mysqlbinlog'}' --no-defaults --exclude-gtids='{held}' {files} | "
                        f"'{tools / 'mysql'}' --no-defaults --binary-mode --socket='{into}/mysqld.sock' -uroot")
    took = time.monotonic() - begin
    missing = sql(f"SELECT GTID_SUBTRACT('{wanted}', @@GLOBAL.gtid_executed)").strip()
    if missing:
        raise RuntimeError(f"the pipe did not apply {missing}")
    lab.stop_recovered(into)
    return took
