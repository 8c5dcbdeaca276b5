//! Checks the licences of dependencies.

use crate::workspace::Package;

const ALLOWED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "CC0-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

/// Returns complaints about packages whose licence expression cannot be met with the allowed
/// licences alone.
pub fn not_allowed(packages: &[Package]) -> Vec<String> {
    let complaint = |package: &Package| {
        let licence = package.licence.as_deref().unwrap_or("");
        (!is_allowed(licence)).then(|| format!("{}: licence `{licence}` is not allowed", package.name))
    };
    packages.iter().filter_map(complaint).collect()
}

/// Returns true if the SPDX expression can be met. Accepts `/`, an old form of `OR`; an expression
/// that cannot be parsed is not allowed.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = LicenceTokens(spaced.split_whitespace().rev().collect());
    words.any_of() == Some(true) && words.0.is_empty()
}

/// Remaining tokens, the next one last.
struct LicenceTokens<'a>(Vec<&'a str>);

impl LicenceTokens<'_> {
    fn any_of(&mut self) -> Option<bool> {
        let mut met = self.segments_on()?;
        while self.take("OR") {
            met |= self.segments_on()?;
        }
        Some(met)
    }

    fn segments_on(&mut self) -> Option<bool> {
        let mut met = self.one()?;
        while self.take("AND") {
            met &= self.one()?;
        }
        Some(met)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let met = self.any_of()?;
            return self.take(")").then_some(met);
        }
        let name = self.0.pop()?;
        let exception = if self.take("WITH") { format!(" WITH {}", self.0.pop()?) } else { String::new() };
        Some(ALLOWED.contains(&format!("{name}{exception}").as_str()))
    }

    fn take(&mut self, word: &str) -> bool {
        let next = self.0.last() == Some(&word);
        if next {
            self.0.pop();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_evaluated() {
        for good in [
            "MIT",
            "Unlicense OR MIT",
            "GPL-3.0-only OR (MIT AND ISC)",
            "(MIT OR GPL-2.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "MIT/GPL-2.0",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-2.0-only",
            "MIT AND (GPL-2.0-only OR MPL-2.0)",
            "MIT WITH Something-exception",
            "(MIT",
            "MIT)",
            "MIT OR",
            "MIT Apache-2.0",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn forbidden_licence_is_reported() {
        let package = |licence: Option<&str>| Package {
            name: "x".into(),
            licence: licence.map(Into::into),
            uses: vec![],
        };
        let complaints = not_allowed(&[package(Some("MIT")), package(Some("AGPL-3.0-only")), package(None)]);
        assert_eq!(complaints, ["x: licence `AGPL-3.0-only` is not allowed", "x: licence `` is not allowed"]);
    }
}
