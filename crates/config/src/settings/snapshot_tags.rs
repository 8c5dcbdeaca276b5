//! The user's own tags of EBS snapshots: an organization may require them.

use std::collections::BTreeMap;

use super::recovery::text;
use super::table::TableReader;

/// Largest number of tags; EC2 allows 50, and Backstop sets its own.
const MAX_TAGS: usize = 30;
/// EC2's limits, in characters
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions>).
const MAX_KEY_CHARS: usize = 128;
const MAX_VALUE_CHARS: usize = 256;

/// Reads the tags of a key, and refuses those that EC2 or Backstop would not accept.
pub(crate) fn snapshot_tags(table: &TableReader<'_>, key: &'static str) -> BTreeMap<String, String> {
    let tags = table.table_such_as(key, "{ CostCenter = \"…\" }").map(|t| t.free(text)).unwrap_or_default();
    if let Err(why) = check_snapshot_tags(&tags) {
        table.refuse(key, why);
    }
    tags
}

/// Checks tags that come from elsewhere.
///
/// # Errors
/// Returns the cause in words.
pub fn check_snapshot_tags(tags: &BTreeMap<String, String>) -> Result<(), String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("has {} tags: the maximum is {MAX_TAGS}", tags.len()));
    }
    for (key, value) in tags {
        let own = ["Name", "GTID", "Cluster-name"].contains(&key.as_str()) || key.starts_with("Backstop-");
        if own {
            return Err(format!("`{key}` is set by Backstop"));
        }
        if key.is_empty() || key.to_lowercase().starts_with("aws:") || key.chars().count() > MAX_KEY_CHARS {
            return Err(format!("`{key}` cannot be a key: use 1 to {MAX_KEY_CHARS} characters, not `aws:`"));
        }
        if value.chars().count() > MAX_VALUE_CHARS {
            return Err(format!("the value of `{key}` is longer than {MAX_VALUE_CHARS} characters"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_ec2_or_backstop_would_refuse_are_refused() {
        let refusal = |key: &str, value: &str| {
            check_snapshot_tags(&BTreeMap::from([(key.to_owned(), value.to_owned())])).err()
        };
        assert_eq!(refusal("CostCenter", "7"), None);
        for (key, part) in [
            ("Backstop-State", "set by Backstop"),
            ("GTID", "set by Backstop"),
            ("AWS:x", "not `aws:`"),
            ("", "cannot be a key"),
        ] {
            assert!(refusal(key, "1").is_some_and(|why| why.contains(part)), "{key}");
        }
        assert!(refusal("x", &"y".repeat(257)).is_some_and(|why| why.contains("longer than 256")));
        let many = (0..31).map(|number| (format!("k{number}"), String::new())).collect();
        assert!(check_snapshot_tags(&many).is_err());
    }
}
