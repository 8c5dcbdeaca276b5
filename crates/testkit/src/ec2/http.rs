//! Minimal HTTP server: requests with a length, persistent connections.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::actions::{self, ActionResponse};
use super::request::Ec2Request;
use super::{Ec2State, Shared};

/// Answers one connection's requests until it is closed.
pub(super) async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(socket);
    while let Some(message) = read(&mut stream).await {
        let shared = Arc::clone(&shared);
        // Copying a volume blocks.
        let answer = tokio::task::spawn_blocking(move || answer(&message, &shared)).await;
        let Ok(Some((status, kind, body))) = answer else {
            // No answer: the connection stays open until the client gives up.
            std::future::pending::<()>().await;
            return;
        };
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        let whole = [head.as_bytes(), body.as_bytes()].concat();
        if stream.get_mut().write_all(&whole).await.is_err() {
            return;
        }
    }
}

struct HttpMessage {
    method: String,
    path: String,
    authorization: String,
    body: String,
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<HttpMessage> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok().filter(|read| *read > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(HttpMessage { method, path, authorization, body: String::from_utf8(body).ok()? })
}

fn answer(message: &HttpMessage, shared: &Shared) -> Option<(u16, &'static str, String)> {
    match (message.method.as_str(), message.path.as_str()) {
        ("GET", "/state") => Some((200, "application/json", known(&shared.lock()))),
        ("PUT", "/state") => match serde_json::from_str::<Ec2State>(&message.body) {
            Ok(state) => {
                *shared.lock() = state;
                Some((200, "application/json", "{}".to_owned()))
            }
            Err(error) => Some((400, "text/plain", error.to_string())),
        },
        _ => {
            let answer = match Ec2Request::read(&message.body, &message.authorization) {
                Ok(request) => actions::answer(&request, shared),
                Err(refusal) => ActionResponse::Said(refusal.status, refusal.body()),
            };
            match answer {
                ActionResponse::Said(status, body) => Some((status, "text/xml;charset=UTF-8", body)),
                ActionResponse::Nothing => None,
            }
        }
    }
}

fn known(state: &Ec2State) -> String {
    serde_json::to_string_pretty(state).expect("JSON")
}
