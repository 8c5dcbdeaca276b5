//! Changes of events by a statement.

use backstop_types::scheduled_events::{EventChange, EventName, EventState};

use super::{Statement, name, without_if_exists};
use crate::tokenizer::{Token, tokenize};

/// Largest number of tokens before the body of an event; a longer statement is not parsed.
const MAX_TOKENS: usize = 1000;
/// Number of tokens searched for the word `EVENT`, after a definer.
const MAX_DEFINER_TOKENS: usize = 12;
/// Number of characters shown of a statement that could not be parsed.
const MAX_SHOWN_CHARS: usize = 80;

impl Statement {
    /// Returns its change of events; `None` for most statements.
    pub(crate) fn event_change(&self) -> Option<EventChange> {
        let first = tokenize(&self.text, 2 + MAX_DEFINER_TOKENS, self.plain_backslashes);
        let verb = first.first().and_then(Token::keyword)?;
        let target = target(&first)?;
        if target == EventTarget::Schema && verb != "DROP" {
            return None;
        }
        let tokens = tokenize(&self.text, MAX_TOKENS, self.plain_backslashes);
        let change = match (verb.as_str(), target) {
            ("DROP", EventTarget::Schema) => schema(tokens.get(2..)?),
            ("DROP", EventTarget::Event(at)) => {
                self.named(tokens.get(at..)?).map(|(name, _)| EventChange::Dropped { name })
            }
            ("CREATE", EventTarget::Event(at)) => self.created(tokens.get(at..)?, tokens.len()),
            ("ALTER", EventTarget::Event(at)) => self.altered(tokens.get(at..)?, tokens.len()),
            _ => return None,
        };
        let begin = || self.shown(MAX_SHOWN_CHARS).escape_debug().to_string();
        Some(change.unwrap_or_else(|| EventChange::NotUnderstood { statement: begin() }))
    }

    fn created(&self, tokens: &[Token], all: usize) -> Option<EventChange> {
        let unless_there = tokens.first()?.is("IF");
        let (name, rest) = self.named(tokens)?;
        let clauses = EventClauses::read(self, rest, all)?;
        let state = clauses.state.unwrap_or(EventState::Enabled);
        Some(EventChange::Created { name, state, unless_there })
    }

    fn altered(&self, tokens: &[Token], all: usize) -> Option<EventChange> {
        let (name, rest) = self.named(tokens)?;
        let EventClauses { state, renamed } = EventClauses::read(self, rest, all)?;
        Some(EventChange::Altered { name, renamed, state })
    }

    /// Parses an event's name, in the default schema if it names none, and returns the remaining
    /// tokens.
    fn named<'a>(&self, tokens: &'a [Token]) -> Option<(EventName, &'a [Token])> {
        let ((schema, event), rest) = name(without_if_exists(tokens))?;
        let schema = schema.unwrap_or_else(|| self.schema.clone());
        let readable = |text: &str| !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER);
        (readable(&schema) && readable(&event)).then_some((EventName { schema, event }, rest))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EventTarget {
    Schema,
    /// An event; its name begins at this token.
    Event(usize),
}

/// Returns the object of a `CREATE`, `ALTER` or `DROP`, if it is an event, or a schema with all its
/// objects.
fn target(tokens: &[Token]) -> Option<EventTarget> {
    let second = tokens.get(1)?;
    if second.is("DATABASE") || second.is("SCHEMA") {
        return Some(EventTarget::Schema);
    }
    if second.is("EVENT") {
        return Some(EventTarget::Event(2));
    }
    if !second.is("DEFINER") {
        return None;
    }
    // The word after the equals sign is an account's name, even if it is a keyword.
    let behind = tokens.iter().enumerate().skip(4);
    let others = ["AGGREGATE", "FUNCTION", "PROCEDURE", "SQL", "TRIGGER", "VIEW"];
    let kind =
        behind.into_iter().find(|(_, token)| token.is("EVENT") || others.iter().any(|word| token.is(word)));
    let definer_is_text = tokens.get(3).filter(|token| token.is("EVENT"));
    match (definer_is_text, kind) {
        (_, Some((at, token))) if token.is("EVENT") => Some(EventTarget::Event(at + 1)),
        (Some(_), None) => Some(EventTarget::Event(4)),
        _ => None,
    }
}

fn schema(tokens: &[Token]) -> Option<EventChange> {
    match without_if_exists(tokens).first()? {
        Token::Word(schema) | Token::Quoted(schema) => {
            Some(EventChange::SchemaDropped { schema: schema.clone() })
        }
        Token::Text | Token::Sign(_) => None,
    }
}

/// The words between an event's name and its comment or body.
#[derive(Default)]
struct EventClauses {
    state: Option<EventState>,
    renamed: Option<EventName>,
}

impl EventClauses {
    /// Reads these words. `all`: number of the statement's tokens, as far as it was read.
    fn read(statement: &Statement, tokens: &[Token], all: usize) -> Option<Self> {
        let (mut clauses, mut depth, mut rest) = (Self::default(), 0_i32, tokens);
        while let Some((token, after)) = rest.split_first() {
            rest = after;
            let next = |word: &str| after.first().is_some_and(|token| token.is(word));
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                _ if depth > 0 => {}
                _ if token.is("COMMENT") || token.is("DO") => return Some(clauses),
                _ if token.is("ENABLE") => clauses.state = Some(EventState::Enabled),
                _ if token.is("DISABLE") && next("ON") => {
                    clauses.state = Some(EventState::ReplicaSideDisabled)
                }
                _ if token.is("DISABLE") => clauses.state = Some(EventState::Disabled),
                _ if token.is("RENAME") && next("TO") => {
                    let (name, behind) = statement.named(after.get(1..)?)?;
                    (clauses.renamed, rest) = (Some(name), behind);
                }
                _ => {}
            }
        }
        (all < MAX_TOKENS).then_some(clauses)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(text: &str) -> Option<EventChange> {
        Statement { schema: "d".into(), text: text.into(), plain_backslashes: false }.event_change()
    }

    fn name(schema: &str, event: &str) -> EventName {
        EventName { schema: schema.into(), event: event.into() }
    }

    fn created(schema: &str, event: &str, state: EventState, unless_there: bool) -> Option<EventChange> {
        Some(EventChange::Created { name: name(schema, event), state, unless_there })
    }

    fn altered(event: &str, renamed: Option<EventName>, state: Option<EventState>) -> Option<EventChange> {
        Some(EventChange::Altered { name: name("d", event), renamed, state })
    }

    #[test]
    fn events_are_created() {
        use EventState::{Disabled, Enabled, ReplicaSideDisabled};
        for (text, wanted) in [
            (
                "CREATE DEFINER=`a`@`%` EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
                created("d", "e", Enabled, false),
            ),
            (
                "CREATE DEFINER=\"bob\"@\"localhost\" event if not exists `s`.`a``b` on schedule at now() + interval 1 day \
                 on completion preserve disable comment 'it''s' do begin end",
                created("s", "a`b", Disabled, true),
            ),
            (
                "/*!50106 CREATE */ /*!50117 DEFINER=`event`@`x`*/ /*!50106 EVENT `ü` ON SCHEDULE EVERY 1 DAY DISABLE ON SLAVE DO SET @e = 'x' */",
                created("d", "ü", ReplicaSideDisabled, false),
            ),
            (
                "CREATE EVENT e ON SCHEDULE AT f.g(disable) DO ALTER EVENT x DISABLE",
                created("d", "e", Enabled, false),
            ),
            (
                "CREATE DEFINER=CURRENT_USER() EVENT e ON SCHEDULE EVERY 1 DAY ENABLE DO SELECT 1",
                created("d", "e", Enabled, false),
            ),
        ] {
            assert_eq!(change(text), wanted, "{text}");
        }
    }

    #[test]
    fn events_are_altered_and_dropped() {
        use EventState::{Disabled, Enabled};
        let dropped = |schema: &str, event: &str| Some(EventChange::Dropped { name: name(schema, event) });
        let schema = |schema: &str| Some(EventChange::SchemaDropped { schema: schema.into() });
        for (text, wanted) in [
            ("alter event e enable", altered("e", None, Some(Enabled))),
            ("ALTER DEFINER=event EVENT e DISABLE", altered("e", None, Some(Disabled))),
            ("ALTER DEFINER='event'@'%' EVENT e DISABLE", altered("e", None, Some(Disabled))),
            ("ALTER DEFINER='u' EVENT e COMMENT 'DISABLE'", altered("e", None, None)),
            ("ALTER EVENT e ON SCHEDULE EVERY 2 DAY DO SELECT 'ENABLE'", altered("e", None, None)),
            (
                "ALTER EVENT e RENAME TO s.enable DISABLE",
                altered("e", Some(name("s", "enable")), Some(Disabled)),
            ),
            ("DROP EVENT IF EXISTS`s`.`e3`", dropped("s", "e3")),
            ("drop event e", dropped("d", "e")),
            ("DROP DATABASE IF EXISTS shop", schema("shop")),
            ("drop schema `a b`", schema("a b")),
        ] {
            assert_eq!(change(text), wanted, "{text}");
        }
    }

    #[test]
    fn other_statements_are_ignored_and_unclear_ones_flagged() {
        for text in [
            "CREATE TABLE event (a INT)",
            "ALTER TABLE e RENAME TO event",
            "DROP TABLE event",
            "CREATE DATABASE event",
            "ALTER DATABASE d COLLATE utf8mb4_bin",
            "CREATE DEFINER=`a`@`%` PROCEDURE p() CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
            "CREATE DEFINER=`a`@`%` TRIGGER event BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            "CREATE DEFINER='a' SQL SECURITY INVOKER VIEW event AS SELECT 1",
            "GRANT EVENT ON *.* TO u",
            "",
        ] {
            assert_eq!(change(text), None, "{text}");
        }
        let many = format!("CREATE EVENT e ON SCHEDULE EVERY 1{} DAY DO SELECT 1", " + 1".repeat(MAX_TOKENS));
        for text in ["CREATE EVENT", "ALTER EVENT \u{fffd}x ENABLE", "DROP EVENT 'x'", many.as_str()] {
            assert!(matches!(change(text), Some(EventChange::NotUnderstood { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_statements_are_read(
            text: String,
            parts in prop::collection::vec(prop::sample::select(vec![
                "CREATE ", "ALTER ", "DROP ", "EVENT ", "DEFINER", "=", "@", "`e`", "'", "(", ")", "RENAME TO ", "DO ", "DISABLE ON ", "é",
            ]), 0..20)
        ) {
            let _ = change(&text);
            let _ = change(&parts.concat());
        }
    }
}
