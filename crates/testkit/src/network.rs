//! Network of hosts that know each other by name: namespaces on one bridge. Only root can create
//! it.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netns::{self, can_make, ip, left_behind};

/// Folder of the files that `ip netns exec` mounts over those in `/etc`.
const NETNS_FILES: &str = "/etc/netns";

/// Hosts in network namespaces. Removed when dropped, except the processes in them.
pub struct TestNetwork {
    tag: String,
    net: String,
    hosts: Vec<String>,
}

impl TestNetwork {
    /// Connects hosts of these names; `None`, with a message on standard error, if the test has no
    /// permission.
    pub fn of(names: &[&str]) -> Option<Self> {
        if !can_make() {
            return None;
        }
        sweep();
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let tag = format!("bsn{:06x}{number:02x}", std::process::id());
        let net = format!("10.7.{}", crate::accounts::unique_number() % 256);
        let hosts = names.iter().map(|name| (*name).to_owned()).collect();
        let made = Self { tag, net, hosts };
        ip(&["link", "add", &made.tag, "type", "bridge"]);
        ip(&["link", "set", &made.tag, "up"]);
        for number in 0..made.hosts.len() {
            made.connect(number);
        }
        Some(made)
    }

    /// Returns the address of a host.
    pub fn address(&self, host: &str) -> String {
        format!("{}.{}", self.net, self.number(host) + 1)
    }

    /// Returns the beginning of a command on this host. The host finds the others by their names.
    pub fn prefix(&self, host: &str) -> Vec<String> {
        netns::prefix(&self.namespace(self.number(host)))
    }

    /// Listens on the loopback of every host, on the same port of each.
    pub fn listen_on_loopbacks(&self) -> Vec<TcpListener> {
        let mut port = 0;
        let listen = |number| {
            let listener = self.listen(number, port);
            port = listener.local_addr().expect("an address").port();
            listener
        };
        (0..self.hosts.len()).map(listen).collect()
    }

    /// Listens in the namespace of a host: a socket stays in the namespace of the thread that made
    /// it.
    fn listen(&self, number: usize, port: u16) -> TcpListener {
        let namespace = Path::new("/run/netns").join(self.namespace(number));
        let namespace = std::fs::File::open(namespace).expect("a namespace");
        let listen = move || {
            let enter = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            enter.expect("enter a namespace");
            TcpListener::bind(("127.0.0.1", port)).expect("listen on a host's loopback")
        };
        std::thread::spawn(listen).join().expect("a thread in a namespace")
    }

    fn number(&self, host: &str) -> usize {
        self.hosts.iter().position(|name| name == host).unwrap_or_else(|| panic!("no host {host}"))
    }

    fn namespace(&self, number: usize) -> String {
        format!("{}-{number}", self.tag)
    }

    fn connect(&self, number: usize) {
        let namespace = self.namespace(number);
        let files = Path::new(NETNS_FILES).join(&namespace);
        let names = self.hosts.iter().map(|host| format!("{} {host}\n", self.address(host)));
        std::fs::create_dir_all(&files).expect("create a folder for a namespace's files");
        std::fs::write(files.join("hosts"), format!("127.0.0.1 localhost\n{}", names.collect::<String>()))
            .expect("write a host's names");
        // The name of an interface has at most 15 letters.
        let (outer, inner) = (format!("{}o{number}", self.tag), format!("{}i{number}", self.tag));
        let address = format!("{}/24", self.address(&self.hosts[number]));
        ip(&["netns", "add", &namespace]);
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner]);
        ip(&["link", "set", &inner, "netns", &namespace]);
        ip(&["link", "set", &outer, "master", &self.tag, "up"]);
        ip(&["-n", &namespace, "address", "add", &address, "dev", &inner]);
        ip(&["-n", &namespace, "link", "set", &inner, "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
    }
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        for number in 0..self.hosts.len() {
            remove(&self.namespace(number));
        }
        // Not asserted: this runs while a failed test unwinds.
        let _ = Command::new("ip").args(["link", "del", &self.tag]).output();
    }
}

/// Removes a namespace with its files. Removing its inner end removes its link.
fn remove(namespace: &str) {
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
    let _ = std::fs::remove_dir_all(PathBuf::from(NETNS_FILES).join(namespace));
}

/// Removes the remains of killed tests.
fn sweep() {
    for name in left_behind("bsn") {
        remove(&name);
        let bridge = name.split('-').next().unwrap_or_default();
        let _ = Command::new("ip").args(["link", "del", bridge]).output();
    }
}
