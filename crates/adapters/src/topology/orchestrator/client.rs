//! One node of orchestrator over HTTP: `GET` with a deadline, and the kinds of answers.

use std::path::Path;
use std::time::Duration;

use backstop_config::credentials::{BasicAuth, OrchestratorAccess};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Limit for an answer, in bytes: ten thousand instances take a tenth of it.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Limit for the part of an unexpected answer that is shown, in characters.
const MAX_SHOWN_CHARS: usize = 120;

/// A node of orchestrator.
#[derive(Debug, Clone)]
pub(super) struct OrchestratorNode {
    client: Client,
    url: Url,
    login: Option<BasicAuth>,
}

/// Cause of a request's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiError {
    /// No answer arrived in time.
    Silent(String),
    /// The login was refused or is missing.
    Denied(String),
    /// orchestrator answered with an error: its message.
    Says(String),
    /// The answer does not have the form of orchestrator's answers.
    Strange(String),
}

/// orchestrator's answer when a request fails.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    message: String,
}

impl OrchestratorNode {
    /// Creates the client of the node at `url`, which may have a path prefix. Sends no request yet.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] if the address or the certificates cannot be read.
    pub(super) fn new(url: &str, access: &OrchestratorAccess) -> Result<Self> {
        let doing = format!("cannot use orchestrator at {url}");
        let url = Url::parse(url).context(ErrorKind::Usage, &doing)?;
        // A redirect would send the login elsewhere, and a proxy would see it.
        let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        let builder = match &access.ca {
            Some(ca) => builder.tls_certs_only(certificates(ca)?),
            None => builder,
        };
        let client = builder.build().context(ErrorKind::Usage, &doing)?;
        Ok(Self { client, url, login: access.login.clone() })
    }

    /// Returns the node's address.
    pub(super) fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Returns the answer to `GET …/api/path[0]/path[1]…`, which must be JSON with status 200.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        deadline: Duration,
    ) -> Result<T, ApiError> {
        let answered = tokio::time::timeout(deadline, self.body(path)).await;
        let body = answered.map_err(|_| ApiError::Silent(format!("no answer within {deadline:?}")))??;
        serde_json::from_slice(&body).map_err(|error| {
            ApiError::Strange(format!("the answer to {} is unreadable: {error}", path.join("/")))
        })
    }

    async fn body(&self, path: &[&str]) -> Result<Vec<u8>, ApiError> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        let mut request = self.client.get(url);
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(login.password.expose_secret()));
        }
        let response = request.send().await.map_err(connection_error)?;
        let status = response.status();
        let body = read_limited(response).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(refused(status, &body)) }
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let doing = format!("cannot read orchestrator_ca {}", path.display());
    let pem = std::fs::read(path).context(ErrorKind::Usage, &doing)?;
    let found = Certificate::from_pem_bundle(&pem).context(ErrorKind::Usage, &doing)?;
    if found.is_empty() {
        let error = Error::new(ErrorKind::Usage, format!("{doing}: it contains no certificate"));
        return Err(error.hint("name a PEM file with the certificates to trust"));
    }
    Ok(found)
}

async fn read_limited(mut response: Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(connection_error)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ApiError::Strange(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn refused(status: StatusCode, body: &[u8]) -> ApiError {
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return ApiError::Denied(format!("the login was refused (HTTP {})", status.as_u16()));
    }
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(spoken) if spoken.message == "Unauthorized" => ApiError::Denied("Unauthorized".to_owned()),
        Ok(spoken) => ApiError::Says(spoken.message),
        // `leader-check` answers with a plain JSON string.
        Err(_) => match serde_json::from_slice::<String>(body) {
            Ok(text) => ApiError::Says(text),
            Err(_) => ApiError::Strange(format!("HTTP {}: {}", status.as_u16(), shown(body))),
        },
    }
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect()
}

/// Describes a connection error by its innermost cause; the outer ones only repeat the address.
fn connection_error(error: reqwest::Error) -> ApiError {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ApiError::Silent(cause.to_string())
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(why) | Self::Denied(why) => f.write_str(why),
            Self::Says(words) => write!(f, "orchestrator reports: {words}"),
            Self::Strange(why) => {
                write!(f, "{why} (check the address of orchestrator, with its scheme and URL prefix)")
            }
        }
    }
}
