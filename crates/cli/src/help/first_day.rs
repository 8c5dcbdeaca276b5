//! Generates `docs/first-day.md` from the checks that `check --aws` makes. `BLESS=1` rewrites it.

use std::fmt::Write as _;

use backstop_aws::QUESTION_DEADLINE;
use backstop_policy::first_day::quotas::{QUOTAS_DATE, SHARD_QUOTAS};
use backstop_policy::first_day::roles::{Asking, AwsRole, CHECK_ACTIONS, Subject};
use backstop_policy::first_day::{FIRST_DAY_CHECKS, FirstDayCheck};

use super::reference::{assert_generated, wrapped};

const INTRODUCTION: &str = "\
# The first day on an AWS account

Generated from the program.

```
backstop check --aws SHARD [--role ROLE] [--json]
backstop check --aws --all
```

The command (in a build with the feature `aws`) asks the account, before anything of Backstop has
run in it, if the first backup, deletion and recovery would work. It changes nothing: it reads, and
asks for each action of EC2 by a dry run. Each question has a deadline of DEADLINE seconds with
its retries. [commands.md](commands.md#check) describes output and exit codes; then continue with
[the checks by hand](deploy-aws.md#check-first-on-your-account).

1. Run it with the credentials of an administrator, on the network of the functions, for one shard;
   then with `--all --role function` for a fleet. Shards are asked one after the other, since EC2
   throttles the requests of an account.
2. Run it once for each role that a person or host takes (`prune`, `archiver`, `recover`, `drill`),
   with the role's own credentials and `--role`. The roles of the functions trust Lambda only: a
   principal with the same policy must ask for them (output `check_policy_json` has the actions of
   the command itself).
3. Repeat it after the first backup and during the first drill: the answers in the state `later`
   need a snapshot and an instance of a recovery.

| state | meaning |
|---|---|
| `ok` | as expected |
| `later` | cannot be asked before something else exists |
| `warning` | works, with a cost or a risk |
| `not_checked` | AWS did not answer; never counted as good |
| `problem` | a backup, a deletion or a recovery would fail |
";

fn section(check: &FirstDayCheck) -> String {
    let items =
        [("Finds", check.why), ("Calls", check.calls), ("Does not see", check.unseen), ("To do", check.todo)];
    let mut text = format!("\n### {}\n\nCode: `{}`.\n\n", check.title, check.code);
    for (name, said) in items {
        let end = if said.ends_with('.') { "" } else { "." };
        text.push_str(&wrapped(&format!("- **{name}**: {said}{end}")));
    }
    text.push_str(&wrapped(&format!("- **AWS's page**: <{}>", check.page)));
    text
}

fn asking(asking: Asking) -> String {
    match asking {
        Asking::Account => "dry run".to_owned(),
        Asking::On(Subject::Secret) => "real read of the shard's secret".to_owned(),
        Asking::On(subject) => format!("dry run on {}", subject.wanted().0),
        Asking::With(other) => format!("with the dry run of `{other}`"),
        Asking::Never => "not asked: AWS has no dry run".to_owned(),
    }
}

fn role(role: AwsRole) -> String {
    let mut text = format!("\n### Role {}\n\nPolicy: `{}`.\n\n", role.name(), role.policy());
    text.push_str("| action | asked by |\n|---|---|\n");
    for one in role.actions() {
        let _ = writeln!(text, "| `{}` | {} |", one.action, asking(one.asking));
    }
    text
}

fn page() -> String {
    let mut page = INTRODUCTION.replace("DEADLINE", &QUESTION_DEADLINE.as_secs().to_string());
    page.push_str("\n## Checks\n");
    page.extend(FIRST_DAY_CHECKS.iter().map(section));
    page.push_str("\n## Actions\n");
    page.extend(AwsRole::ALL.into_iter().map(role));
    page.push_str(
        "\n### The command\n\nOutput `check_policy_json` of the modules, beside a role's own actions.\n\n",
    );
    page.push_str("| action |\n|---|\n");
    for action in CHECK_ACTIONS {
        let _ = writeln!(page, "| `{action}` |");
    }
    let _ = write!(
        page,
        "\n## Default quotas of {QUOTAS_DATE}\n\n| quota | value | per | page |\n|---|---|---|---|\n"
    );
    for quota in SHARD_QUOTAS {
        let name = quota.name.replace('_', " ");
        let _ = writeln!(page, "| {name} | {} | {} | <https://{}> |", quota.value, quota.per, quota.page);
    }
    page
}

#[test]
fn first_day_document_is_generated_from_the_checks() {
    assert_generated("first-day.md", &page());
}
