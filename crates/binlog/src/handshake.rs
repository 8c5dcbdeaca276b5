//! Login to a server ("Connection Phase": Protocol::HandshakeV10, HandshakeResponse41, SSLRequest,
//! AuthSwitchRequest).
//!
//! HandshakeV10: 10 (u8) · server version, terminated · thread id u32 · nonce, first 8 bytes · 0 ·
//! capabilities, low u16 · character set u8 · status u16 · capabilities, high u16 · length of the
//! nonce with its zero byte u8 · 10 zero bytes · rest of the nonce (12 bytes and 0) · plugin's
//! name, terminated.
//!
//! HandshakeResponse41: capabilities u32 · largest packet u32 · character set u8 · 23 zero bytes
//! (SSLRequest ends here) · user, terminated · length-encoded answer to the nonce · plugin's name,
//! terminated.

use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::login::{ReplicationAccount, TlsMode, TlsSettings};

use crate::caching_sha2::{self, NONCE_BYTES, PLUGIN_NAME};
use crate::codec::{FieldReader, put_packed_bytes};
use crate::connection::{ErrPacket, PacketConnection};
use crate::{login_error, tls};

/// Capability flags in use.
pub(crate) mod capability {
    pub(crate) const LONG_PASSWORD: u32 = 1;
    pub(crate) const LONG_FLAG: u32 = 4;
    pub(crate) const PROTOCOL_41: u32 = 0x200;
    pub(crate) const SSL: u32 = 0x800;
    pub(crate) const TRANSACTIONS: u32 = 0x2000;
    pub(crate) const SECURE_CONNECTION: u32 = 0x8000;
    pub(crate) const CONNECT_WITH_DB: u32 = 8;
    pub(crate) const PLUGIN_AUTH: u32 = 0x8_0000;
    pub(crate) const PLUGIN_AUTH_LENENC: u32 = 0x20_0000;
}
use capability::{
    LONG_FLAG, LONG_PASSWORD, PLUGIN_AUTH, PLUGIN_AUTH_LENENC, PROTOCOL_41, SECURE_CONNECTION, SSL,
    TRANSACTIONS,
};

const CAPABILITIES: u32 = LONG_PASSWORD
    | LONG_FLAG
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | PLUGIN_AUTH
    | PLUGIN_AUTH_LENENC;
/// Collation id of utf8mb4_general_ci.
pub(crate) const UTF8MB4: u8 = 45;
const MAX_PACKET_BYTES: u32 = 1 << 30;

/// A server's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) capabilities: u32,
    pub(crate) nonce: Vec<u8>,
}

impl Greeting {
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(packet);
        if fields.u8()? != 10 {
            return None;
        }
        let version = String::from_utf8_lossy(fields.terminated()?).into_owned();
        fields.u32()?;
        let mut nonce = fields.bytes(8)?.to_vec();
        fields.u8()?;
        let low = u32::from(fields.u16()?);
        fields.bytes(3)?;
        let capabilities = low | u32::from(fields.u16()?) << 16;
        let length = usize::from(fields.u8()?);
        fields.bytes(10)?;
        let second = fields.bytes(length.saturating_sub(8).max(13))?;
        nonce.extend(second);
        nonce.truncate(NONCE_BYTES);
        Some(Self { version, capabilities, nonce })
    }
}

/// Logs in on a new connection. Returns the connection, encrypted if agreed, and the server's
/// version.
pub(crate) async fn log_in(
    mut connection: PacketConnection,
    host: &str,
    account: &ReplicationAccount,
    tls: &TlsSettings,
) -> Result<(PacketConnection, String)> {
    let packet = connection.reader.packet().await?;
    login_refused(&packet, &account.user)?;
    let greeting = Greeting::parse(&packet)
        .ok_or_else(|| Error::failed("cannot log in: the server is not MySQL 5.7 or later"))?;
    if use_tls(tls.mode, greeting.capabilities)? {
        connection.answer(&response_head(CAPABILITIES | SSL)).await?;
        let sequence = connection.reader.sequence();
        connection = tls::start_tls(connection, host, tls).await?;
        connection.writer.packet(sequence.wrapping_add(2), &response(&greeting, account, SSL)).await?;
    } else {
        connection.answer(&response(&greeting, account, 0)).await?;
    }
    authenticate(&mut connection, account, greeting.nonce).await?;
    Ok((connection, greeting.version))
}

fn use_tls(mode: TlsMode, capabilities: u32) -> Result<bool> {
    let offered = capabilities & SSL != 0;
    match mode {
        TlsMode::Off => Ok(false),
        TlsMode::Preferred => Ok(offered),
        _ if offered => Ok(true),
        _ => Err(Error::new(
            ErrorKind::Refused,
            "cannot log in: the server does not offer TLS, and the credentials require it",
        )),
    }
}

fn response_head(capabilities: u32) -> Vec<u8> {
    let mut out = capabilities.to_le_bytes().to_vec();
    out.extend(MAX_PACKET_BYTES.to_le_bytes());
    out.push(UTF8MB4);
    out.extend([0; 23]);
    out
}

fn response(greeting: &Greeting, account: &ReplicationAccount, with: u32) -> Vec<u8> {
    let mut out = response_head(CAPABILITIES | with);
    out.extend(account.user.as_bytes());
    out.push(0);
    put_packed_bytes(&mut out, &caching_sha2::password_answer(&account.password, &greeting.nonce));
    out.extend(PLUGIN_NAME.as_bytes());
    out.push(0);
    out
}

/// Answers the server's requests until it accepts the login. A server sends only a few requests.
async fn authenticate(
    connection: &mut PacketConnection,
    account: &ReplicationAccount,
    mut nonce: Vec<u8>,
) -> Result<()> {
    for _ in 0..8 {
        let packet = connection.reader.packet().await?;
        login_refused(&packet, &account.user)?;
        match *packet.as_slice() {
            [0, ..] => return Ok(()),
            [1, 3] => {} // the answer to the nonce was right; OK follows
            [1, 4] if connection.encrypted => {
                connection.answer(&caching_sha2::clear_password(&account.password)).await?
            }
            [1, 4] => connection.answer(&[2]).await?,
            [1, ref pem @ ..] => {
                let sent = caching_sha2::rsa_encrypted(&account.password, &nonce, pem)?;
                connection.answer(&sent).await?;
            }
            [0xfe, ref request @ ..] => {
                nonce = switched_nonce(request, &account.user)?;
                connection.answer(&caching_sha2::password_answer(&account.password, &nonce)).await?;
            }
            _ => break,
        }
    }
    Err(Error::failed("cannot log in: the server sent an unknown answer"))
}

/// Parses the new nonce of an AuthSwitchRequest: `fe` · plugin's name, terminated · nonce and 0.
fn switched_nonce(request: &[u8], user: &str) -> Result<Vec<u8>> {
    let mut fields = FieldReader::new(request);
    let plugin = fields.terminated().unwrap_or_default();
    if plugin != PLUGIN_NAME.as_bytes() {
        let plugin = String::from_utf8_lossy(plugin);
        return Err(login_error::unknown_plugin(&plugin, user).during("cannot log in"));
    }
    let rest = fields.rest();
    Ok(rest.get(..NONCE_BYTES).unwrap_or(rest).to_vec())
}

/// Converts an ERR packet during the login of an account to an error.
pub(crate) fn login_refused(packet: &[u8], user: &str) -> Result<()> {
    let told = ErrPacket::parse(packet);
    let told = told.and_then(|told| login_error::login_error(told.code, &told.message, user));
    told.map_or_else(|| statement_refused(packet), Err)
}

/// Converts an ERR packet to an error.
pub(crate) fn statement_refused(packet: &[u8]) -> Result<()> {
    let Some(refusal) = ErrPacket::parse(packet) else { return Ok(()) };
    let kind = match refusal.code {
        1044 | 1045 | 1142 | 1227 => ErrorKind::Denied,
        _ => ErrorKind::Failed,
    };
    Err(Error::new(kind, format!("the server reports: {} (error {})", refusal.message, refusal.code)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_greetings_are_read_or_refused(bytes: Vec<u8>) {
            let mut packet = vec![10];
            packet.extend(&bytes);
            if let Some(greeting) = Greeting::parse(&packet) {
                prop_assert!(greeting.nonce.len() == NONCE_BYTES);
            }
            let _ = (statement_refused(&bytes), switched_nonce(&bytes, "b"), ErrPacket::parse(&bytes));
        }
    }

    #[test]
    fn tls_is_used_as_the_mode_requires() {
        assert_eq!(use_tls(TlsMode::Preferred, 0), Ok(false));
        assert_eq!(use_tls(TlsMode::Preferred, SSL), Ok(true));
        assert_eq!(use_tls(TlsMode::Off, SSL), Ok(false));
        assert!(use_tls(TlsMode::Required, 0).is_err_and(|error| error.kind == ErrorKind::Refused));
    }
}
