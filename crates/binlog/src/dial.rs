//! Dial: opens sockets to servers.

use std::time::Duration;

use async_trait::async_trait;
use backstop_types::error::{Error, Result};
use backstop_types::ids::Endpoint;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A socket, plain or encrypted.
pub trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// Opens sockets to servers.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects to a server within `deadline`.
    ///
    /// # Errors
    /// Fails if the server does not answer in this time, or refuses the connection.
    async fn connect(&self, endpoint: &Endpoint, deadline: Duration) -> Result<Box<dyn Socket>>;
}

/// TCP of this host.
#[derive(Debug, Clone, Copy)]
pub struct TcpDial;

#[async_trait]
impl Dial for TcpDial {
    async fn connect(&self, endpoint: &Endpoint, deadline: Duration) -> Result<Box<dyn Socket>> {
        let opening = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let socket = tokio::time::timeout(deadline, opening)
            .await
            .map_err(|_| Error::failed(format!("nothing answered in {deadline:?}")))?
            .map_err(|error| Error::failed(error.to_string()))?;
        // Acknowledgements are small, and commits wait for them.
        socket.set_nodelay(true).map_err(|error| Error::failed(error.to_string()))?;
        Ok(Box::new(socket))
    }
}
