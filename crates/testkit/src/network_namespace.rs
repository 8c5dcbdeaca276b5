//! Network namespace that plays another machine, linked to the tests' by one wire. Only root can
//! create it.

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::netns::{self, can_make, ip, left_behind};

/// Network namespace. Removed when dropped, except the processes in it.
pub struct NetworkNamespace {
    name: String,
    /// Address of this machine's servers as seen from the namespace, if they listen on it.
    pub servers: String,
}

impl NetworkNamespace {
    /// Creates a namespace; `None`, with a message on standard error, if the test has no
    /// permission.
    pub fn new() -> Option<Self> {
        if !can_make() {
            return None;
        }
        sweep();
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let name = format!("bsm{:06x}{number:02x}", std::process::id());
        let [.., a, b, c] = (crate::accounts::unique_number() as u32).to_be_bytes();
        // From 198.18.0.0/15, which is reserved for tests of networks (RFC 2544).
        let net = format!("198.{}.{b}", 18 + a % 2);
        let (here, there) = (format!("{net}.{}", (c & 0xfc) | 1), format!("{net}.{}", (c & 0xfc) | 2));
        let made = Self { name, servers: here.clone() };
        let Self { name, .. } = &made;
        let (outer, inner) = (format!("{name}o"), format!("{name}i"));
        ip(&["netns", "add", name]);
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner]);
        ip(&["link", "set", &inner, "netns", name]);
        ip(&["address", "add", &format!("{here}/30"), "dev", &outer]);
        ip(&["link", "set", &outer, "up"]);
        ip(&["-n", name, "address", "add", &format!("{there}/30"), "dev", &inner]);
        ip(&["-n", name, "link", "set", &inner, "up"]);
        Some(made)
    }

    /// Returns the beginning of a command in the namespace.
    pub fn prefix(&self) -> Vec<String> {
        netns::prefix(&self.name)
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn remove(name: &str) {
    // Not asserted: this runs while a failed test unwinds. Removing one end of a link removes the
    // other.
    let _ = Command::new("ip").args(["link", "del", &format!("{name}o")]).output();
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Removes the remains of killed tests.
fn sweep() {
    left_behind("bsm").iter().for_each(|name| remove(name));
}
