//! AWS that misbehaves: a proxy in front of moto that answers some actions itself, and every dry
//! run as EC2 does, which moto does not know for all actions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Answer in the place of moto's.
#[derive(Debug, Clone)]
pub enum Answer {
    /// None: the connection stays open.
    Never,
    /// Status and body.
    Said(u16, String),
}

impl Answer {
    /// Returns an error of EC2
    /// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>).
    pub fn of_ec2(status: u16, code: &str, message: &str) -> Self {
        Self::Said(
            status,
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>test</RequestID></Response>"
            ),
        )
    }

    /// Returns an error of STS
    /// (<https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>).
    pub fn of_sts(code: &str, message: &str) -> Self {
        Self::Said(
            403,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                 <RequestId>test</RequestId></ErrorResponse>"
            ),
        )
    }

    /// Returns an error of KMS or Secrets Manager.
    pub fn of_json(code: &str, message: &str) -> Self {
        Self::Said(400, format!("{{\"__type\":\"{code}\",\"message\":\"{message}\"}}"))
    }
}

/// The proxy.
pub struct Misbehaving {
    /// Its address.
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    moto: String,
    answers: Mutex<BTreeMap<String, Answer>>,
    /// Actions that were to change something.
    changes: Mutex<Vec<String>>,
    /// Bodies of dry runs, with their actions.
    dry_runs: Mutex<Vec<(String, String)>>,
}

impl Misbehaving {
    /// Starts a proxy in front of moto at `host:port`.
    pub async fn before(moto: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { moto: moto.to_owned(), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&serving)));
            }
        });
        Self { url, shared, task }
    }

    /// Answers an action from now on. A dry run is named `DryRun:ACTION`; `*` is every action.
    pub fn answers(&self, action: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(action.to_owned(), answer);
    }

    /// Behaves well again.
    pub fn behaves(&self) {
        self.shared.answers.lock().unwrap().clear();
    }

    /// Returns the bodies of an action's dry runs.
    pub fn dry_runs(&self, action: &str) -> Vec<String> {
        let all = self.shared.dry_runs.lock().unwrap();
        all.iter().filter(|(name, _)| name == action).map(|(_, body)| body.clone()).collect()
    }

    /// Returns the actions that were to change something.
    pub fn changes(&self) -> Vec<String> {
        self.shared.changes.lock().unwrap().clone()
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut stream = BufReader::new(socket);
    let (head, body) = read(&mut stream).await?;
    let action = action(&head, &body);
    let is_dry = body.contains("DryRun=true");
    let reads = ["Describe", "Get", "List"].iter().any(|verb| action.starts_with(verb));
    if !is_dry && !reads {
        shared.changes.lock().unwrap_or_else(PoisonError::into_inner).push(action.clone());
    }
    if is_dry {
        let mut dry_runs = shared.dry_runs.lock().unwrap_or_else(PoisonError::into_inner);
        dry_runs.push((action.clone(), body.clone()));
    }
    let name = if is_dry { format!("DryRun:{action}") } else { action };
    let own = {
        let answers = shared.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&name).or_else(|| answers.get("*")).cloned()
    };
    let dry_run = is_dry.then(|| {
        Answer::of_ec2(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
    });
    let answer = match own.or(dry_run) {
        Some(Answer::Never) => std::future::pending().await,
        Some(Answer::Said(status, body)) => format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
        None => forwarded(&shared.moto, &head, &body).await?,
    };
    stream.get_mut().write_all(&answer).await.ok()?;
    stream.get_mut().shutdown().await.ok()
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

/// Returns the action: a parameter of the query protocol, or the target of the JSON protocol.
fn action(head: &str, body: &str) -> String {
    let target = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-amz-target").then(|| value.trim().rsplit('.').next().unwrap().to_owned())
    });
    let parameter = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
    target.or_else(|| parameter.map(str::to_owned)).unwrap_or_default()
}

async fn forwarded(moto: &str, head: &str, body: &str) -> Option<Vec<u8>> {
    let mut there = TcpStream::connect(moto).await.ok()?;
    there.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    there.read_to_end(&mut answer).await.ok()?;
    Some(answer)
}
