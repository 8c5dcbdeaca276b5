//! Secrets in moto, read over the SDK's own wire format: faulty secrets, and a rotation. Denials
//! are not covered, since moto returns them in EC2's format for this service: the tests of the
//! function serve them as AWS does.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::primitives::Blob;
use backstop_aws::client::AwsClient;
use backstop_aws::secrets_manager::read;
use backstop_config::secret_entry::{SecretEntry, credentials};
use backstop_types::error::ErrorKind;
use secrecy::ExposeSecret;

use crate::moto::Moto;

async fn kept(client: &Client, name: &str, text: &str) -> String {
    let made = client.create_secret().name(name).secret_string(text).send().await.unwrap();
    made.arn().unwrap().to_owned()
}

async fn refused(aws: &AwsClient, id: &str, kind: ErrorKind, parts: &[&str]) {
    let error = read(aws, id).await.map(|_| ()).unwrap_err();
    let told = format!("{error} {}", error.hint.as_deref().unwrap_or_default());
    assert!(
        error.kind == kind && parts.iter().all(|part| told.contains(part)),
        "{kind:?} {parts:?}: {error:?}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_secret_is_read_with_its_new_value() {
    let moto = Moto::start().await;
    let aws = moto.aws().await;
    let client = Client::new(aws.config());
    let entry = |password: &str| format!("{{\"username\": \"b\", \"password\": \"{password}\"}}");
    let arn = kept(&client, "prod/orders", &entry("hunter2")).await;
    for id in ["prod/orders", &arn] {
        let login = credentials(read(&aws, id).await.unwrap().expose_secret(), id).unwrap();
        assert_eq!((login.user.as_str(), login.password.expose_secret()), ("b", "hunter2"));
    }
    client.put_secret_value().secret_id("prod/orders").secret_string(entry("rotated")).send().await.unwrap();
    for id in ["prod/orders", &arn] {
        let login = credentials(read(&aws, id).await.unwrap().expose_secret(), id).unwrap();
        assert_eq!(login.password.expose_secret(), "rotated");
    }
    // An ARN selects its own region, wherever the function runs.
    let elsewhere = aws.in_region("us-west-2");
    assert!(read(&elsewhere, &arn).await.is_ok());
    refused(&elsewhere, "prod/orders", ErrorKind::Usage, &["prod/orders", "us-west-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_errors_do_not_contain_the_secret() {
    let moto = Moto::start().await;
    let aws = moto.aws().await;
    let client = Client::new(aws.config());
    refused(&aws, "prod/nothing", ErrorKind::Usage, &["prod/nothing", aws.region()]).await;

    kept(&client, "gone", "hunter2").await;
    client.delete_secret().secret_id("gone").send().await.unwrap();
    refused(&aws, "gone", ErrorKind::Usage, &["gone", "restore-secret"]).await;

    client.create_secret().name("bytes").secret_binary(Blob::new("hunter2")).send().await.unwrap();
    refused(&aws, "bytes", ErrorKind::Usage, &["bytes", "SecretString"]).await;

    kept(&client, "malformed", "{\"username\": \"b\", \"password\": hunter2}").await;
    let text = read(&aws, "malformed").await.unwrap();
    let error = SecretEntry::parse(text.expose_secret(), "malformed", None).unwrap_err().to_string();
    assert!(error.contains("secret malformed") && !error.contains("hunter2"), "{error}");
}
