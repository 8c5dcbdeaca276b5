//! Request of the query API: flat parameters with numbered parts.

use std::collections::{BTreeMap, BTreeSet};

use super::api_error::Ec2Error;

/// Parameters of one request, and the region that it addresses.
#[derive(Debug, Clone)]
pub(super) struct Ec2Request {
    pub(super) region: String,
    pub(super) action: String,
    parameters: BTreeMap<String, String>,
}

/// A filter: any one of its values must match.
pub(super) struct Filter {
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

impl Ec2Request {
    /// Reads a body; the region is in the signature.
    pub(super) fn read(body: &str, authorization: &str) -> Result<Self, Ec2Error> {
        let mut parameters = BTreeMap::new();
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.insert(decoded(name), decoded(value));
        }
        let scope = authorization.split("Credential=").nth(1).unwrap_or_default();
        let scope: Vec<_> = scope.split([',', ' ']).next().unwrap_or_default().split('/').collect();
        let [_, _, region, "ec2", "aws4_request"] = scope[..] else {
            return Err(Ec2Error::new(
                401,
                "AuthFailure",
                "AWS was not able to validate the provided access credentials",
            ));
        };
        let action = parameters.remove("Action").unwrap_or_default();
        if parameters.remove("Version").as_deref() != Some("2016-11-15") {
            return Err(Ec2Error::new(400, "NoSuchVersion", "The API version is not known"));
        }
        Ok(Self { region: region.to_owned(), action, parameters })
    }

    /// Refuses every parameter whose first part is not known: a stand-in that ignored some would
    /// prove nothing.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Ec2Error> {
        let first = |name: &String| name.split('.').next().unwrap_or_default().to_owned();
        match self
            .parameters
            .keys()
            .map(first)
            .find(|name| !known.contains(&name.as_str()) && name != "DryRun")
        {
            Some(name) => {
                Err(Ec2Error::new(400, "UnknownParameter", format!("The parameter {name} is not recognized")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.get("DryRun") == Some("true")
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Returns the values of `name.1`, `name.2`, …
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        (1..).map_while(|number| self.get(&format!("{name}.{number}"))).map(str::to_owned).collect()
    }

    pub(super) fn filters(&self) -> Vec<Filter> {
        let name = |number| self.get(&format!("Filter.{number}.Name")).map(str::to_owned);
        (1..)
            .map_while(|number: u32| Some((number, name(number)?)))
            .map(|(number, name)| Filter { name, values: self.list(&format!("Filter.{number}.Value")) })
            .collect()
    }

    /// Returns the tags under `prefix.1.Key`, …, within EC2's limits.
    pub(super) fn tags(&self, prefix: &str) -> Result<BTreeMap<String, String>, Ec2Error> {
        let mut tags = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for number in 1.. {
            let Some(key) = self.get(&format!("{prefix}.{number}.Key")) else { break };
            let value = self.get(&format!("{prefix}.{number}.Value")).unwrap_or_default();
            let bad = |message: String| Err(Ec2Error::new(400, "InvalidParameterValue", message));
            if key.is_empty() || key.chars().count() > 127 || key.starts_with("aws:") {
                return bad(format!("Tag keys may not be '{key}'"));
            }
            if value.chars().count() > 256 {
                return bad(format!("Tag value exceeds the maximum length of 256 characters: {key}"));
            }
            if !seen.insert(key) {
                return Err(Ec2Error::new(
                    400,
                    "InvalidParameterValue",
                    format!("Duplicate tag key '{key}'"),
                ));
            }
            tags.insert(key.to_owned(), value.to_owned());
        }
        if tags.len() > 50 {
            return Err(Ec2Error::new(400, "TagLimitExceeded", "More than 50 tags"));
        }
        Ok(tags)
    }
}

impl Filter {
    /// Returns true if one of the values matches this one; `*` and `?` are wildcards unless
    /// escaped.
    pub(super) fn fits(&self, value: &str) -> bool {
        let value: Vec<char> = value.chars().collect();
        self.values.iter().any(|pattern| matches(&pattern.chars().collect::<Vec<_>>(), &value))
    }
}

fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['\\', plain, rest @ ..] => text.first() == Some(plain) && matches(rest, &text[1..]),
        ['*', rest @ ..] => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        ['?', rest @ ..] => !text.is_empty() && matches(rest, &text[1..]),
        [plain, rest @ ..] => text.first() == Some(plain) && matches(rest, &text[1..]),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, tail.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (other, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTH: &str =
        "AWS4-HMAC-SHA256 Credential=k/20261123/eu-test-1/ec2/aws4_request, SignedHeaders=host, Signature=0";

    #[test]
    fn parameters_are_parsed_strictly() {
        let body = "Action=A&Version=2016-11-15&Filter.1.Name=tag%3AX&Filter.1.Value.1=a*&Filter.1.Value.2=b%5C*&T.1.Key=k";
        let request = Ec2Request::read(body, AUTH).unwrap();
        assert_eq!((request.action.as_str(), request.region.as_str()), ("A", "eu-test-1"));
        let filter = &request.filters()[0];
        assert!(filter.name == "tag:X" && filter.fits("abc") && filter.fits("b*") && !filter.fits("bc"));
        assert_eq!(request.tags("T").unwrap().len(), 1);
        assert!(request.only(&["Filter", "T"]).is_ok() && request.only(&["Filter"]).is_err());
        assert!(Ec2Request::read("Action=A&Version=2016-11-15", "").is_err());
        let long = format!("Version=2016-11-15&T.1.Key=k&T.1.Value={}", "x".repeat(257));
        assert!(Ec2Request::read(&long, AUTH).unwrap().tags("T").is_err());
    }
}
