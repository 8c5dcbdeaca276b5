//! A minimal HTTP server: one request and one answer per connection.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request.
pub struct Request {
    pub path: String,
    pub body: String,
}

/// Status, further headers, body.
pub type Answer = (u16, String, String);

/// A server, stopped when dropped.
pub struct HttpServer {
    /// `127.0.0.1:port`.
    pub address: String,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Starts a server that answers with this function.
    pub async fn start(
        answer: impl Fn(Request) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let _ = serve(socket, &*answer).await;
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut socket: TcpStream,
    answer: &(impl Fn(Request) -> BoxFuture<'static, Answer> + Send + Sync),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    socket.read_exact(&mut body).await?;
    let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let request = Request { path, body: String::from_utf8_lossy(&body).into_owned() };
    let (status, headers, body) = answer(request).await;
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    socket.write_all(text.as_bytes()).await?;
    socket.shutdown().await
}
