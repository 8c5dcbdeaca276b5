//! Runs the EC2 stand-in: `fake-ec2 --port PORT --images DIR [--state FILE]`.
//!
//! `FILE` is JSON (`{"instances": [{"id", "private_ip", "private_dns", "tags", "volumes": [{"id",
//! "device", "path"}]}]}`; see `backstop_testkit::ec2::Ec2State`). `GET /state` on the same port
//! returns the whole state, including the path of each snapshot's copy (`image`); `PUT /state`
//! replaces it. The program prints its address when it listens.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::exit, reason = "a program of the tests")]
#![allow(clippy::disallowed_methods, reason = "it ends by itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use backstop_testkit::ec2::FakeEc2;

#[tokio::main]
async fn main() {
    let (mut port, mut images, mut state) = (0, None, None);
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--port" => port = value.parse().expect("--port is a number"),
            "--images" => images = Some(PathBuf::from(value)),
            "--state" => state = Some(std::fs::read_to_string(value).expect("read --state")),
            other => {
                eprintln!("fake-ec2: {other} is not known");
                std::process::exit(2);
            }
        }
    }
    let images = images.expect("--images DIR");
    let ec2 = FakeEc2::start(port, &images).await;
    if let Some(text) = state {
        ec2.with(|known| *known = serde_json::from_str(&text).expect("--state is JSON"));
    }
    println!("{}", ec2.url);
    ec2.forever().await;
}
