#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use proptest::prelude::*;

use super::*;

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

/// Returns the next `n` due moments.
fn due(text: &str, from: &str, n: usize) -> Vec<DateTime<Utc>> {
    let schedule = schedule(text);
    std::iter::successors(Some(at(from)), |moment| schedule.next_after(*moment)).skip(1).take(n).collect()
}

#[test]
fn schedule_is_due_at_the_listed_moments() {
    let cases: [(&str, &str, &[&str]); 13] = [
        ("cron(55 23 * * ? *)", "2026-11-23T23:55", &["2026-11-24T23:55", "2026-11-25T23:55"]),
        ("cron(0/20 8-9 ? * MON-FRI *)", "2026-11-20T09:20", &["2026-11-20T09:40", "2026-11-23T08:00"]),
        ("cron(0 0 L * ? *)", "2028-02-01T00:00", &["2028-02-29T00:00", "2028-03-31T00:00"]),
        ("cron(0 0 LW * ? *)", "2026-01-01T00:00", &["2026-01-30T00:00", "2026-02-27T00:00"]),
        ("cron(0 0 1W * ? *)", "2026-07-31T00:00", &["2026-08-03T00:00", "2026-09-01T00:00"]),
        ("cron(0 0 15W * ? *)", "2026-08-01T00:00", &["2026-08-14T00:00", "2026-09-15T00:00"]),
        ("cron(0 0 31W * ? *)", "2026-04-01T00:00", &["2026-05-29T00:00", "2026-07-31T00:00"]),
        ("cron(0 0 ? * 3#2 *)", "2026-11-01T00:00", &["2026-11-10T00:00", "2026-12-08T00:00"]),
        ("cron(0 0 ? * TUE#5 *)", "2026-11-01T00:00", &["2026-12-29T00:00", "2027-03-30T00:00"]),
        ("cron(0 0 ? * 6L *)", "2026-11-01T00:00", &["2026-11-27T00:00", "2026-12-25T00:00"]),
        ("cron(0 0 ? * L *)", "2026-11-23T00:00", &["2026-11-28T00:00", "2026-12-05T00:00"]),
        ("cron(0 0 29 2 ? *)", "2096-03-01T00:00", &["2104-02-29T00:00", "2108-02-29T00:00"]),
        ("rate(6 hours)", "2026-11-23T01:02", &["2026-11-23T07:02", "2026-11-23T13:02"]),
    ];
    for (text, from, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|moment| at(moment)).collect();
        assert_eq!(due(text, from, expected.len()), expected, "{text}");
    }
}

#[test]
fn schedule_ends_with_its_last_year() {
    let last = schedule("cron(0 12 31 12 ? 2026-2027)");
    assert_eq!(last.next_after(at("2027-12-31T12:00")), None);
    assert_eq!(last.previous_before(at("2199-01-01T00:00")), Some(at("2027-12-31T12:00")));
    assert_eq!(last.previous_before(at("2026-12-31T12:00")), None);
}

#[test]
fn errors_name_the_field() {
    for (text, part) in [
        ("55 23 * * *", "write cron("),
        ("cron(55 23 * * ?)", "six fields"),
        ("cron(60 23 * * ? *)", "minutes: `60`"),
        ("cron(0 24 * * ? *)", "hours: `24`"),
        ("cron(0 0 32 * ? *)", "day-of-month: `32`"),
        ("cron(0 0 ? * 8 *)", "day-of-week: `8` is not a value: write 1-7 or SUN-SAT"),
        ("cron(0 0 * XXX ? *)", "month: `XXX`"),
        ("cron(0 0 * * ? 1969)", "year: `1969`"),
        ("cron(0 0 * * * *)", "must be `?`"),
        ("cron(0 0 ? * ? *)", "both `?`"),
        ("cron(0 0 1,L * ? *)", "stand alone"),
        ("cron(0 0 ? * 3#1,6#3 *)", "after `#`"),
        ("cron(0 0 ? * 3#6 *)", "after `#`"),
        ("cron(0/0 0 * * ? *)", "step"),
        ("cron(30-10 0 * * ? *)", "runs backwards"),
        ("cron(+5 0 * * ? *)", "minutes: `+5`"),
        ("cron(, 0 * * ? *)", "minutes: ``"),
        ("cron(0 0 30 2 ? *)", "never run"),
        ("rate(1 hours)", "singular: rate(1 hour)"),
        ("rate(5 minute)", "plural: rate(5 minutes)"),
        ("rate(0 days)", "above 0"),
        ("rate(5 weeks)", "not a unit"),
        ("rate(5)", "whole number and a unit"),
        ("rate(400 days)", "longer than a year"),
    ] {
        let error = text.parse::<Schedule>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

/// `testing/terraform/test_schedules.py` checks that the Terraform module gives the same answers.
#[test]
fn schedules_of_the_table_shared_with_terraform_are_judged() {
    let table = include_str!("../../../../testing/terraform/schedules.txt");
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let (text, said) = line.split_once(" => ").expect(line);
        match (text.parse::<Schedule>(), said) {
            (Ok(_), "ok") => {}
            (Err(error), part) if error.reason.contains(part.trim()) => {}
            (read, _) => panic!("{line}: {read:?}"),
        }
    }
}

#[test]
fn longest_interval_is_computed() {
    let hours =
        |text: &str| schedule(text).longest_interval(at("2026-11-23T00:00")).unwrap().as_secs() / 3600;
    assert_eq!(hours("cron(55 23 * * ? *)"), 24);
    assert_eq!(hours("cron(0 6,20 * * ? *)"), 14);
    assert_eq!(hours("cron(0 6 ? * MON-FRI *)"), 72);
    assert_eq!(hours("cron(0 0 1 * ? *)"), 31 * 24);
    assert_eq!(hours("rate(2 days)"), 48);
    assert_eq!(schedule("cron(0 0 1 1 ? 2026)").longest_interval(at("2026-11-23T00:00")), None);
}

#[test]
fn systemd_calendar_matches_the_schedule() {
    for (text, lines) in [
        ("cron(55 23 * * ? *)", &["OnCalendar=*-*-* 23:55:00 UTC"][..]),
        ("cron(0/20 8-10 ? * MON-FRI *)", &["OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 08..10:00,20,40:00 UTC"]),
        ("cron(0 0 1,15 JAN,JUL ? 2026-2030)", &["OnCalendar=2026..2030-01,07-01,15 00:00:00 UTC"]),
        ("cron(* * * * ? *)", &["OnCalendar=*-*-* *:*:00 UTC"]),
        ("cron(0 0 L * ? *)", &["OnCalendar=*-*~01 00:00:00 UTC"]),
        ("cron(0 0 ? * 6L *)", &["OnCalendar=Fri *-*~07/1 00:00:00 UTC"]),
        ("cron(0 0 ? * 3#2 *)", &["OnCalendar=Tue *-*-08..14 00:00:00 UTC"]),
        (
            "cron(0 0 15W * ? *)",
            &[
                "OnCalendar=Mon..Fri *-*-15 00:00:00 UTC",
                "OnCalendar=Fri *-*-14 00:00:00 UTC",
                "OnCalendar=Mon *-*-16 00:00:00 UTC",
            ],
        ),
        ("rate(1 day)", &["OnBootSec=5min", "OnUnitActiveSec=86400s"]),
    ] {
        assert_eq!(schedule(text).to_systemd().unwrap().lines(), lines, "{text}");
    }
    let refused = schedule("cron(0 0 31W * ? *)").to_systemd().unwrap_err();
    assert!(refused.to_string().contains("31W"));
}

/// A field as text, and the values it matches, computed by enumeration.
#[derive(Debug, Clone)]
struct Plain {
    text: String,
    values: Vec<u32>,
}

fn field(first: u32, last: u32) -> impl Strategy<Value = Plain> {
    let all: Vec<u32> = (first..=last).collect();
    let any = Just(Plain { text: "*".into(), values: all });
    let single = move || (first..=last).prop_map(|v| Plain { text: v.to_string(), values: vec![v] });
    let range = (first..=last, first..=last, 1..=5u32).prop_map(|(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        Plain { text: format!("{a}-{b}/{step}"), values: (a..=b).filter(|v| (v - a) % step == 0).collect() }
    });
    let from = (first..=last, 1..=7u32).prop_map(move |(a, step)| Plain {
        text: format!("{a}/{step}"),
        values: (a..=last).filter(|v| (v - a) % step == 0).collect(),
    });
    let one = prop_oneof![single(), range, from];
    let list = proptest::collection::vec(one, 1..3).prop_map(|parts| Plain {
        text: parts.iter().map(|part| part.text.clone()).collect::<Vec<_>>().join(","),
        values: parts.into_iter().flat_map(|part| part.values).collect(),
    });
    prop_oneof![any, list]
}

proptest! {
    #[test]
    fn next_moment_agrees_with_a_search_minute_by_minute(
        (minutes, hours, days, months) in (field(0, 59), field(0, 23), field(1, 31), field(1, 12)),
        weekly in field(1, 7),
        by_week in any::<bool>(),
        start in 1_700_000_000i64..1_900_000_000,
    ) {
        let (of_month, of_week) =
            if by_week { ("?", weekly.text.as_str()) } else { (days.text.as_str(), "?") };
        let text = format!("cron({} {} {of_month} {} {of_week} *)", minutes.text, hours.text, months.text);
        let Ok(schedule) = text.parse::<Schedule>() else {
            // Only a day that no month has may be refused.
            prop_assert!(!by_week && days.values.iter().all(|day| *day > 28), "{}", text);
            return Ok(());
        };
        let fits = |moment: &DateTime<Utc>| {
            let day = if by_week {
                weekly.values.contains(&(moment.weekday().num_days_from_sunday() + 1))
            } else {
                days.values.contains(&moment.day())
            };
            day && minutes.values.contains(&moment.minute())
                && hours.values.contains(&moment.hour())
                && months.values.contains(&moment.month())
        };
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let whole = DateTime::from_timestamp(start.timestamp().div_euclid(60) * 60, 0).unwrap();
        let window = 60 * 24 * 40;
        let minute = |n: i64| whole + TimeDelta::minutes(n);
        let naive_next = (1..window).map(minute).find(|m| fits(m));
        let naive_previous = (0..window).map(|n| minute(-n)).find(|m| *m < start && fits(m));
        let next = schedule.next_after(start).unwrap();
        let previous = schedule.previous_before(start).unwrap();
        match naive_next {
            Some(naive) => prop_assert_eq!(next, naive, "{}", text),
            None => prop_assert!(next >= minute(window) && fits(&next), "{}", text),
        }
        match naive_previous {
            Some(naive) => prop_assert_eq!(previous, naive, "{}", text),
            None => prop_assert!(previous <= minute(-window) && fits(&previous), "{}", text),
        }
        // If `start` itself is due, two intervals meet there.
        let last = if start == whole && fits(&start) { start } else { previous };
        let gap = (next - last).to_std().unwrap();
        prop_assert!(gap <= schedule.longest_interval(last).unwrap(), "{}", text);
    }
}
