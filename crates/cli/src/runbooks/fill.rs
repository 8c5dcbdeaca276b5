//! Replaces the sample values of the pages by a shard's own values.

use backstop_model::ids::Endpoint;
use backstop_model::shell_quote;

/// Replacements for the pages' samples. A sample without a value stays unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunbookValues {
    /// Pairs of sample and value.
    pairs: Vec<(String, String)>,
}

impl RunbookValues {
    /// Replaces `sample` by `value`, where the sample is a whole word.
    pub fn put(&mut self, sample: &str, value: &str) {
        self.pairs.retain(|(known, _)| known != sample);
        self.pairs.push((sample.to_owned(), value.to_owned()));
    }

    /// Replaces a host of the pages (`db1`) by a server, in every form in which a host and its port
    /// occur there.
    pub fn server(&mut self, sample: &str, server: &Endpoint) {
        let (host, port) = (shell_quote::shell_quote(&server.host), server.port);
        self.put(&format!("{sample}:3306"), &server.to_string());
        self.put(&format!("--host={sample} --port=3306"), &format!("--host={host} --port={port}"));
        let sql = |host: &str, port: u16| format!("SOURCE_HOST='{host}', SOURCE_PORT={port}");
        self.put(&sql(sample, 3306), &sql(&server.host, port));
        self.put(sample, &server.host);
    }

    /// Replaces a sample by a value that is quoted as one word of a shell.
    pub fn word(&mut self, sample: &str, value: &str) {
        self.put(sample, &shell_quote::shell_quote(value));
    }

    /// Returns a page with the values in it.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while let Some(next) = rest.chars().next() {
            let inside = before.is_some_and(is_of_a_word) && is_of_a_word(next);
            match self.pair_at(rest).filter(|_| !inside) {
                Some((sample, value)) => {
                    filled.push_str(value);
                    rest = &rest[sample.len()..];
                    before = sample.chars().last();
                }
                None => {
                    filled.push(next);
                    rest = &rest[next.len_utf8()..];
                    before = Some(next);
                }
            }
        }
        filled
    }

    /// Returns the longest sample at the beginning of this text.
    fn pair_at(&self, text: &str) -> Option<&(String, String)> {
        let stands = |sample: &str| {
            text.strip_prefix(sample).is_some_and(|rest| !rest.chars().next().is_some_and(is_of_a_word))
        };
        let standing = self.pairs.iter().filter(|(sample, _)| stands(sample));
        standing.max_by_key(|(sample, _)| sample.len())
    }
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_replace_whole_samples_only() {
        let mut values = RunbookValues::default();
        values.put("orders", "billing");
        values.word("/srv/copy", "/data/my copy");
        values.put(" --port 1", "");
        values.server("db1", &"10.0.0.1:3307".parse().unwrap());
        let page = "backstop find orders reorders orders_2 (orders)\nmysql --host=db1 --port=3306 db1:3306 db12\n\
                    SOURCE_HOST='db1', SOURCE_PORT=3306 rm -rf /srv/copy --port 1 --port 12";
        let filled = "backstop find billing reorders orders_2 (billing)\nmysql --host=10.0.0.1 --port=3307 10.0.0.1:3307 db12\n\
                      SOURCE_HOST='10.0.0.1', SOURCE_PORT=3307 rm -rf '/data/my copy' --port 12";
        assert_eq!(values.fill(page), filled);
        assert_eq!(RunbookValues::default().fill(page), page);
    }

    #[test]
    fn a_value_is_never_filled_in_once_more() {
        let mut values = RunbookValues::default();
        values.put("orders", "db1");
        values.put("db1", "orders");
        assert_eq!(values.fill("orders db1"), "db1 orders");
        values.word("x", "$(reboot)'");
        assert_eq!(values.fill("x"), "'$(reboot)'\\'''");
    }
}
