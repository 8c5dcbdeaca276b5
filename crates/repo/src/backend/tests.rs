//! Requests to an S3-compatible store, as a minimal server receives them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use backstop_host::Host;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::connect;
use crate::Location;
use crate::encrypted_store::EncryptedStore;

/// Server that answers by `answer`, and keeps the heads of the requests.
struct Server {
    location: Location,
    heads: Arc<Mutex<Vec<String>>>,
}

type Answer = fn(usize, &str) -> (u16, &'static str);

impl Server {
    async fn start(answer: Answer) -> Self {
        Self::with_header("X-Amz-Request-Id: 1", answer).await
    }

    /// Starts a server that adds this header to each answer.
    async fn with_header(header: &'static str, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut location = Location::new("s3://bucket/prefix");
        location.s3.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
        location.s3.region = Some("us-east-1".into());
        location.s3.access_key_id = Some("id".into());
        location.s3.secret_access_key = Some("secret".to_owned().into());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = heads.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone(), header, answer));
            }
        });
        Self { location, heads }
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        connect(&self.location, &Host::system()).unwrap().store
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, heads: Arc<Mutex<Vec<String>>>, header: &str, answer: Answer) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        let number = {
            let mut heads = heads.lock().unwrap();
            heads.push(head.clone());
            heads.len()
        };
        let (status, text) = answer(number, &head);
        let answer = format!(
            "HTTP/1.1 {status} x\r\nETag: \"1\"\r\n{header}\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn obliging(_: usize, head: &str) -> (u16, &'static str) {
    match head.lines().next().unwrap() {
        line if line.contains("?uploads") => {
            (200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        }
        line if line.contains("?delete") => {
            (200, "<DeleteResult><Deleted><Key>k</Key></Deleted></DeleteResult>")
        }
        line if line.starts_with("post") => {
            (200, "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>")
        }
        _ => (200, ""),
    }
}

/// A bucket with Object Lock and a default retention rejects puts without one.
#[tokio::test]
async fn every_put_carries_a_checksum() {
    let server = Server::start(obliging).await;
    let (store, key) = (server.store(), Path::from("k"));
    store.put(&key, "overwritten".into()).await.unwrap();
    store.put_opts(&key, "created".into(), PutMode::Create.into()).await.unwrap();
    let mut upload = store.put_multipart(&key).await.unwrap();
    upload.put_part("part".into()).await.unwrap();
    upload.complete().await.unwrap();
    let heads = server.heads();
    let puts: Vec<_> = heads.iter().filter(|head| head.starts_with("put")).collect();
    assert_eq!(puts.len(), 3, "{heads:?}");
    for put in puts {
        assert!(put.contains("\r\nx-amz-checksum-sha256: "), "{put}");
        let signed = put.lines().find(|line| line.starts_with("authorization")).unwrap();
        assert!(signed.contains("x-amz-checksum-sha256"), "{signed}");
    }
    assert!(
        heads
            .iter()
            .any(|head| head.contains("?uploads") && head.contains("x-amz-checksum-algorithm: sha256"))
    );
}

#[tokio::test]
async fn private_stores_options_reach_every_put() {
    let mut server = Server::start(obliging).await;
    server.location.s3.kms_key = Some("arn:aws:kms:eu-west-1:123456789012:key/1".into());
    server.location.s3.storage_class = Some("STANDARD_IA".into());
    let store = server.store();
    let pack = Path::from("shards/orders/packs/1");
    for key in [Path::from("backstop"), pack.clone()] {
        store.put(&key, "x".into()).await.unwrap();
    }
    store.put_multipart(&pack).await.unwrap().complete().await.unwrap();
    // The parts of an upload take the options with which it began.
    let begins = |head: &String| head.starts_with("put") && !head.contains("partnumber=");
    let heads = server.heads();
    let begun: Vec<_> = heads.iter().filter(|head| begins(head) || head.contains("?uploads")).collect();
    assert_eq!(begun.len(), 3, "{heads:?}");
    for head in begun {
        assert!(head.contains("\r\nx-amz-server-side-encryption: aws:kms\r\n"), "{head}");
        let key = "x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:eu-west-1:123456789012:key/1";
        assert!(head.contains(key), "{head}");
        let classed = head.contains("\r\nx-amz-storage-class: standard_ia\r\n");
        assert_eq!(classed, head.contains("/packs/"), "{head}");
        let signed = head.lines().find(|line| line.starts_with("authorization")).unwrap();
        assert!(!classed || signed.contains("x-amz-storage-class"), "{signed}");
    }
}

#[test]
fn certificates_of_a_private_authority_are_read_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let mut location = Location::new("s3://bucket/prefix");
    location.s3.ca = Some(file.clone());
    let refused = |location: &Location| connect(location, &Host::system()).err().unwrap().message;
    assert!(refused(&location).contains("`repository.ca`"), "{}", refused(&location));
    std::fs::write(&file, "no certificate").unwrap();
    assert!(refused(&location).contains("it contains no certificate"), "{}", refused(&location));
}

#[tokio::test]
async fn put_is_repeated_while_the_store_throttles() {
    let server = Server::start(|number, _| match number {
        1..=3 => (503, "<Error><Code>SlowDown</Code></Error>"),
        4..=6 => (429, ""),
        _ => (200, ""),
    })
    .await;
    server.store().put_opts(&Path::from("k"), "x".into(), PutMode::Create.into()).await.unwrap();
    assert_eq!(server.heads().len(), 7);
}

#[tokio::test]
async fn object_lock_of_a_bucket_is_detected() {
    let locked = Server::with_header("x-amz-object-lock-mode: COMPLIANCE", obliging).await;
    for (server, mode) in [(Server::start(obliging).await, None), (locked, Some("COMPLIANCE"))] {
        let reached = connect(&server.location, &Host::system()).unwrap();
        crate::conditional_put::probe_object_lock(&EncryptedStore::plain(reached.store, Host::system()))
            .await
            .unwrap();
        assert_eq!(reached.object_lock.get().map(String::as_str), mode);
        let heads = server.heads();
        let verbs: Vec<_> = heads.iter().map(|head| head.split(' ').next().unwrap()).collect();
        assert_eq!(verbs, ["put", "head", "post"]);
    }
}
