//! Leaders, logins, prefixes and HTTPS.

use std::sync::Arc;

use backstop_config::credentials::{BasicAuth, OrchestratorAccess};
use backstop_types::error::ErrorKind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::fake_orchestrator::{Answers, Behaviour, FakeOrchestrator, StageClock, recorded};
use crate::support::{look, look_at, objection, primary};

fn login(user: &str, password: &str) -> OrchestratorAccess {
    let login = BasicAuth { user: user.into(), password: password.to_owned().into() };
    OrchestratorAccess { login: Some(login), ca: None }
}

fn follower() -> Answers {
    Answers::healthy().and("leader-check", 404, "\"Not leader\"")
}

#[tokio::test]
async fn leader_is_found_among_several_nodes() {
    let waits = StageClock::new();
    let hung = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let nobody = format!("http://127.0.0.1:{}", backstop_testkit::member::free_port());
    let other = FakeOrchestrator::start(vec![follower()], &waits).await;
    let leader = FakeOrchestrator::start(vec![Answers::healthy()], &waits).await;
    let hung = format!("http://{}", hung.local_addr().unwrap());
    let urls = [hung, nobody, other.url.clone(), leader.url.clone()];
    let seen = look_at(&urls, &OrchestratorAccess::default(), &waits).await.unwrap();
    assert_eq!((primary(&seen), waits.slept()), (vec![23306], vec![]));
    assert_eq!(other.requests(), ["/api/leader-check"], "only the leader is asked for more");
}

#[tokio::test]
async fn follower_that_routes_to_the_leader_is_used() {
    let (seen, _, served) = look(vec![follower().and("routed-leader-check", 200, "\"OK\"")]).await;
    assert_eq!(primary(&seen.unwrap()), [23306]);
    assert!(served.requests().contains(&"/api/routed-leader-check".to_owned()));
}

#[tokio::test]
async fn missing_leader_is_retried_and_then_reported() {
    let (seen, waits, _served) = look(vec![follower(), follower(), Answers::healthy()]).await;
    assert_eq!((primary(&seen.unwrap()), waits.slept()), (vec![23306], vec![5, 5]));
    let (seen, waits, served) = look(vec![follower()]).await;
    let error = seen.unwrap_err();
    assert_eq!((error.kind, waits.slept()), (ErrorKind::Failed, vec![5; 6]));
    assert!(error.message.contains("leader") && error.message.contains(&served.url), "{error}");
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn basic_authentication_is_accepted_or_refused() {
    let waits = StageClock::new();
    // The base64 text decodes to orc:s3cret.
    let manner = Behaviour { login: Some("Basic b3JjOnMzY3JldA=="), ..Behaviour::default() };
    let served = FakeOrchestrator::so(vec![Answers::healthy()], &waits, manner).await;
    let urls = [served.url.clone()];
    let seen = look_at(&urls, &login("orc", "s3cret"), &waits).await.unwrap();
    assert_eq!(primary(&seen), [23306]);
    for access in [OrchestratorAccess::default(), login("orc", "wr0ng")] {
        let error = look_at(&urls, &access, &waits).await.unwrap_err();
        assert!(error.kind == ErrorKind::Denied && error.message.contains(&served.url), "{error}");
        assert!(error.hint.as_deref().unwrap().contains("orchestrator_user"));
        assert!(!format!("{error:?}").contains("wr0ng"));
    }
    assert!(waits.slept().is_empty(), "a wrong login does not become right");
}

#[tokio::test]
async fn forbidden_refresh_is_tolerated() {
    let forbidden = recorded("multi-readonly-refresh.json");
    let stage = ["23306", "23307"].iter().fold(Answers::healthy(), |stage, port| {
        stage.and(&format!("refresh/127.0.0.1/{port}"), 500, &forbidden)
    });
    let (seen, _, _served) = look(vec![stage]).await;
    assert!(seen.unwrap().iter().all(|member| member.verdict.objection.is_none()));
    let dead = recorded("11-refresh-dead-candidate.json");
    let (seen, _, _served) = look(vec![Answers::healthy().and("refresh/127.0.0.1/23307", 500, &dead)]).await;
    let seen = seen.unwrap();
    assert!(objection(&seen, 23307).contains("connection refused"), "{}", objection(&seen, 23307));
}

#[tokio::test]
async fn url_prefix_is_used_and_suggested_if_missing() {
    let waits = StageClock::new();
    let manner = Behaviour { prefix: "/orc", ..Behaviour::default() };
    let served = FakeOrchestrator::so(vec![Answers::healthy()], &waits, manner).await;
    let (with, without) = ([format!("{}/orc", served.url)], [served.url.clone()]);
    let seen = look_at(&with, &OrchestratorAccess::default(), &waits).await.unwrap();
    assert_eq!(primary(&seen), [23306]);
    let error = look_at(&without, &OrchestratorAccess::default(), &waits).await.unwrap_err();
    assert!(error.message.contains("404 page not found") && error.message.contains("prefix"), "{error}");
}

#[tokio::test]
async fn https_is_verified_with_the_configured_authority() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let waits = StageClock::new();
    let manner = Behaviour { tls: Some(Arc::new(config)), prefix: "/orc", ..Behaviour::default() };
    let served = FakeOrchestrator::so(vec![Answers::healthy()], &waits, manner).await;
    let urls = [format!("{}/orc", served.url)];
    let trusting = OrchestratorAccess { login: None, ca: Some(ca) };
    assert_eq!(primary(&look_at(&urls, &trusting, &waits).await.unwrap()), [23306]);
    let error = look_at(&urls, &OrchestratorAccess::default(), &waits).await.unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
    let missing = OrchestratorAccess { login: None, ca: Some(folder.path().join("none.pem")) };
    let error = look_at(&urls, &missing, &waits).await.unwrap_err();
    assert!(error.kind == ErrorKind::Usage && error.message.contains("none.pem"), "{error}");
}
