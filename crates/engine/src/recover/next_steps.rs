//! Next steps for the operator after a recovery, as commands that work as pasted.

use std::path::Path;

use backstop_policy::plan::Ending;
use backstop_policy::scheduled_events::EventsReport;

use super::{CopyAccount, RecoveryDecision, RecoveryRequest, layout};
use crate::shell_quote;

/// Returns the next steps. `program` is the server program.
pub(super) fn next_steps(
    request: &RecoveryRequest,
    decided: &RecoveryDecision,
    events: Option<&EventsReport>,
    program: &Path,
) -> Vec<String> {
    let server = HandedOverServer::new(request, program);
    let mut next = match decided.ending {
        Ending::Join => joined_steps(),
        Ending::Standalone => server.standalone(request),
        Ending::AsPrimary => promoted_steps(request, events),
    };
    if decided.listen.is_none() && decided.ending != Ending::Standalone {
        next.insert(0, server.elsewhere());
    }
    if decided.ending != Ending::Standalone {
        next.push(format!("after a reboot or a stop, start it with `{}`", server.start()));
    }
    next
}

/// A server after its hand-over.
struct HandedOverServer {
    dir: String,
    program: String,
    options: String,
    socket: String,
    client: String,
    pid: String,
}

impl HandedOverServer {
    fn new(request: &RecoveryRequest, program: &Path) -> Self {
        let layout = layout::target_layout(request);
        let dir = layout.defaults_file.parent().unwrap_or(Path::new("/"));
        Self {
            dir: shell_word(dir),
            program: shell_word(program),
            socket: shell_word(&layout.socket),
            client: shell_word(&layout::client_file(request)),
            pid: shell_word(&layout.datadir.join("mysqld.pid")),
            options: shell_word(&layout.defaults_file),
        }
    }

    /// Returns commands that stop it and wait for its end.
    fn stop(&self) -> String {
        format!("pid=$(cat {}) && kill \"$pid\" && tail --pid=\"$pid\" -f /dev/null", self.pid)
    }

    fn start(&self) -> String {
        format!("{} --defaults-file={} --daemonize", self.program, self.options)
    }

    fn elsewhere(&self) -> String {
        format!(
            "it listens on 127.0.0.1 only (`--listen` sets this in advance): to serve clients at an ADDRESS of this host, \
             `sed -i 's/^bind_address = .*/bind_address = ADDRESS/' {}`, then `{} && {}`",
            self.options,
            self.stop(),
            self.start()
        )
    }

    fn standalone(&self, request: &RecoveryRequest) -> Vec<String> {
        let login = match request.copy_login {
            CopyAccount::Leave => format!(
                "log in with `mysql --defaults-file={0}`, which can read everything, and copy rows out with `mysqldump --defaults-file={0} \
                 SCHEMA TABLE`",
                self.client
            ),
            CopyAccount::Without => format!(
                "log in with an account of the shard that may connect from localhost: `mysql --socket={} --user=USER --password`; \
                 `--copy-login` creates one that can",
                self.socket
            ),
        };
        let alone = "it is a separate copy, super_read_only: it follows no server, its events do not fire, and nothing that is written to \
                     it reaches the shard";
        let remove = format!("stop it and remove it: `{} && rm -rf {}`", self.stop(), self.dir);
        vec![login, alone.to_owned(), remove]
    }
}

fn joined_steps() -> Vec<String> {
    vec![
        "register it with your topology manager, and add it to the shard's `members`".to_owned(),
        "its events do not fire and its event scheduler is off: if it becomes the primary, enable the events that were enabled, and set \
         event_scheduler"
            .to_owned(),
    ]
}

fn promoted_steps(request: &RecoveryRequest, events: Option<&EventsReport>) -> Vec<String> {
    let shard = &request.shard;
    let printed = events.is_some_and(|events| !events.statements.is_empty());
    let mut next = vec![
        format!("put it in the shard's `members` in place of the lost servers, then start `backstop archive {shard}`"),
        format!("back it up (`backstop backup {shard}`; `backstop shard adopt {shard}` first, if the backup is refused because you recovered to an earlier moment on purpose), and create replicas: `backstop recover {shard} --to latest --into DIR --join`"),
        "if orchestrator watches the shard: `orchestrator-client -c forget-cluster -alias CLUSTER`, then `orchestrator-client -c discover -i HOST:PORT` with this server".to_owned(),
        "semi-synchronous replication is off: run `backstop check --fix` when replicas follow".to_owned(),
        "keep the lost servers from restarting: one that restarts is a second primary".to_owned(),
    ];
    if printed {
        next.push(
            "to enable the events that were enabled at the primary, run the printed statements on it (`events.statements` in JSON)".to_owned(),
        );
    }
    next
}

fn shell_word(path: &Path) -> String {
    shell_quote::shell_quote(&path.display().to_string())
}
