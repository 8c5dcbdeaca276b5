//! Text below the options in the help of each command: notes and examples.

/// Examples below the list of commands.
pub const MAIN_EXAMPLES: &str = "\
Configuration: a TOML file. Every key can also be set by a variable BACKSTOP_… (such as \
BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD=3s) or with --set. Secrets are given only by reference to a file or variable.

Exit codes:
    0    done
    1    the command failed; check, status: something needs attention
    2    arguments or configuration are wrong
    10   the bucket is missing or the store cannot be reached
    11   another run holds the shard
    12   access was denied
    20   a guard refused; nothing was touched
    21   the moment cannot be recovered, or nothing is stored yet
    22   stored data is damaged
    130  interrupted

Examples:
    backstop demo                    show backup and recovery on temporary servers
    backstop init                    make the repository
    backstop check orders            check that the shard can be backed up
    backstop backup orders
    backstop recover orders --to latest --into /var/lib/mysql-new --join";

/// Examples of `demo`.
pub const DEMO_EXAMPLES: &str = "\
Uses an installed MySQL server (8.0 or newer), or on Debian and Ubuntu downloads one into a cache directory. Needs \
about 1.5 GB of free space, one or two minutes, and no configuration. Leaves nothing behind.

Examples:
    backstop demo
    backstop demo --keep             leave the servers running for inspection
    backstop demo --json";

/// Examples of `init`.
pub const INIT_EXAMPLES: &str = "\
Run it once for each repository. No other command makes one, except a first backup or archive if the configuration \
has repository.create = \"if-empty\": a volume that is not mounted is never mistaken for an empty repository.

With --from, asks a running server for its source and replicas, and writes a commented configuration to \
./backstop.toml (or --config FILE). Overwrites no file and changes no server.

Examples:
    backstop init
    backstop init --repository file:///srv/backstop --json
    backstop init --from db1:3306 --shard orders --credentials /etc/backstop/orders.toml --config /etc/backstop/backstop.toml";

/// Examples of `check`.
pub const CHECK_EXAMPLES: &str = "\
Each finding has the action to take. Exit code 1 if a problem prevents a backup or a recovery, 21 if there is no \
repository.

Examples:
    backstop check
    backstop check orders --fix
    backstop check --aws orders --role function --json";

/// Examples of `backup`.
pub const BACKUP_EXAMPLES: &str = "\
Runs on the host of the server that is backed up: the candidate primary if it is usable, else the best replica, \
else the primary. With EBS it runs on any host.

Examples:
    backstop backup orders
    backstop backup orders --kind scheduled --json";

/// Examples of `backups`.
pub const BACKUPS_EXAMPLES: &str = "\
Examples:
    backstop backups orders
    backstop backups orders --latest --json";

/// Examples of `plan`.
pub const PLAN_EXAMPLES: &str = "\
Reads the repository only. A moment that cannot be recovered is refused with the nearest ones that can (exit code 21).

Examples:
    backstop plan orders --to latest
    backstop plan orders --to 2026-11-23T02:21:33Z --into /srv/new --standalone";

/// Examples of `archive`.
pub const ARCHIVE_EXAMPLES: &str = "\
Streams the binlog as a replica does and stores it byte for byte, at most a second behind. Follows the primary \
through failovers. Runs until SIGTERM or Ctrl-C, and archives what it has read before it ends. One archiver runs for \
each shard: a second one is refused (exit code 11). Exit code 1 if transactions were lost to the archive.

Examples:
    backstop archive orders
    backstop archive orders --until-caught-up
    backstop archive orders --systemd > /etc/systemd/system/backstop-archive-orders.service";

/// Examples of `recover`.
pub const RECOVER_EXAMPLES: &str = "\
Leaves a running server that outlives the command, on loopback (unless --listen is given) and read-only (unless \
--as-primary is given), and prints how to connect and which commands are left to run. Replays what the archive has \
beyond the backup, up to the moment. After an interruption, give the same command again: it resumes the recovery.

Examples:
    backstop recover orders --to latest --into /var/lib/mysql-new --join --server-user mysql --listen 10.7.0.4
    backstop recover orders --to latest --into /srv/copy --standalone --port 3307 --check full
    backstop recover orders --to 2026-11-23T02:21:33.5Z --into /srv/copy --standalone --copy-login
    backstop recover orders --to latest --into /var/lib/mysql --as-primary
    backstop recover orders --backup 20261123T022133Z-9f3a04c1 --into /srv/copy --standalone --plan";

/// Examples of `rescue`.
pub const RESCUE_EXAMPLES: &str = "\
The runbooks are part of this program: they can be read without documents, configuration or servers. Asks the \
members which of them is the primary, and fills in the shard's values; changes nothing.

Examples:
    backstop rescue
    backstop rescue --list
    backstop rescue orders --situation table-dropped --into /srv/copy
    backstop rescue orders --situation semi-sync-holds-writes --page";

/// Examples of `find`.
pub const FIND_EXAMPLES: &str = "\
Lists the transactions that fit all options, newest first, each with the argument for `recover --to` that stops just \
before it. Times need a zone, such as 2026-11-23T02:21:33.5Z, or --time-zone NAME; -20m is 20 minutes ago. Changes \
that were logged as statements are found by the tables that the statement names; the log does not contain how many \
rows they touched.

Examples:
    backstop find orders --kind ddl --from -2h
    backstop find orders --table shop.accounts --rows 1000 --json";

/// Examples of `prune`.
pub const PRUNE_EXAMPLES: &str = "\
Shows every backup with the rule that keeps it or the reason for its deletion; deletes only with --apply. The newest \
backup always stays; without retention rules all stay. Objects that only a deleted backup needed are removed an hour \
later, by the next prune.

Examples:
    backstop prune orders
    backstop prune --apply";

/// Examples of `verify`.
pub const VERIFY_EXAMPLES: &str = "\
Lists every damaged object and the backups that need it. Exit code 22 if there is one, 21 if nothing is stored. Only a \
recovery of a backup proves that it can be recovered.

Examples:
    backstop verify
    backstop verify orders --content";

/// Examples of `repair`.
pub const REPAIR_EXAMPLES: &str = "\
Examines the logs of the shard's backups and of its archive's leases, and the indexes of the archive. A log that lost \
entries, or has damaged ones, is rebuilt from its newest sound entry and from the manifests of backups whose objects \
are all stored; a lost or damaged index is rebuilt from the segments: stop the archiver first. Deletes nothing. Exit \
code 1 if repairs were only shown, or are impossible.

Examples:
    backstop repair orders
    backstop repair orders --apply";

/// Examples of `status`.
pub const STATUS_EXAMPLES: &str = "\
Exit code 1 if a backup is overdue, the coverage has a gap or a shard has another problem.

Examples:
    backstop status
    backstop status orders --json";

/// Examples of `key`.
pub const KEY_EXAMPLES: &str = "\
The data of an encrypted repository is encrypted with a data key that each of the user's keys wraps. Several keys may \
open a repository. Each wrapping is stored twice.

Examples:
    backstop key check
    backstop key generate /etc/backstop/new.key
    backstop key rotate /etc/backstop/new.key
    backstop key export /mnt/safe/backstop-wrapped-key.json";

/// Examples of `shard`.
pub const SHARD_EXAMPLES: &str = "\
A shard's name belongs to the history of its first backup. A backup of servers with another history is refused (exit \
code 20). If these servers are the shard all the same, adopt them; stored backups stay as they are.

Examples:
    backstop shard adopt orders";

/// Examples of `schedule`.
pub const SCHEDULE_EXAMPLES: &str = "\
Prints a service and a timer for the shard's `schedule`, with the commands that install them.

Examples:
    backstop schedule orders --systemd";

/// Examples of `completions`.
pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
    backstop completions bash > /etc/bash_completion.d/backstop
    backstop completions zsh > \"${fpath[1]}/_backstop\"
    backstop completions fish > ~/.config/fish/completions/backstop.fish";
