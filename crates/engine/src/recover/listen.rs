//! Addresses and ports at which a recovered server can listen.

use std::net::{Ipv4Addr, TcpListener};

use backstop_types::error::{Error, Result};
use backstop_types::listen_address::ListenAddress;

/// Fails if another process listens on this port of the loopback interface.
pub(super) fn port_is_free(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::refused(format!("cannot use port {port}: {error}"))
            .hint("name a free port with `--port`, or omit it to have one chosen")),
    }
}

/// Fails if one of these is no address of this host, or if another process listens on the port
/// there.
pub(super) fn can_listen(listen: &ListenAddress, port: u16) -> Result<()> {
    for host in listen.hosts() {
        let all = if host == "*" { "0.0.0.0" } else { host };
        // Every address that a name resolves to is tried, as the server does.
        TcpListener::bind((all, port)).map_err(|error| {
            Error::refused(format!("cannot listen on {host}, port {port}: {error}")).hint(
                "name addresses of this host with `--listen` (`ip address` shows them), and a port that is free there with `--port`",
            )
        })?;
    }
    Ok(())
}
