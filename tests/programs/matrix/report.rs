//! The output of a run: a progress bar, a line for each failure, a table at the end, and a file for
//! other programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, stderr};

use super::checks::Summary;
use super::factors::{Config, FACTORS};

/// What became of one configuration.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub config: Config,
    pub seconds: f64,
    pub ran: bool,
    pub result: Result<Summary, String>,
}

/// A combination that was tried because nobody can build it.
#[derive(Clone, Debug)]
pub struct Impossible {
    pub config: Config,
    pub combination: String,
    pub reason: &'static str,
    /// What became of the build; `None` if it was not tried, being true by definition.
    pub attempt: Option<Attempt>,
}

/// A build that was tried because it fails.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What it said; `None` if it succeeded.
    pub failure: Option<String>,
    /// Whether it should have succeeded, if that is known for these versions.
    pub builds: Option<bool>,
}

impl Attempt {
    /// Returns whether the attempt ended as it should.
    pub fn is_as_known(&self) -> bool {
        self.builds.is_none_or(|builds| builds == self.failure.is_none())
    }
}

/// Everything.
#[derive(Debug, Default)]
pub struct Results {
    pub outcomes: Vec<Outcome>,
    pub impossible: Vec<Impossible>,
    pub pairs_covered: usize,
    pub pairs_impossible: Vec<String>,
    pub versions: Vec<(String, String)>,
    pub date: String,
    pub seconds: f64,
}

/// Returns the command that repeats one configuration.
pub fn repeat(config: &Config) -> String {
    format!("cargo run --example matrix -- --only {config}")
}

/// Prints a failure as a line above the bar.
pub fn failure(config: &Config, reason: &str) {
    let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
    eprintln!("{clear}FAILED: {reason}: {}", repeat(config));
}

/// Returns the table at the end. For each value of each factor it has the numbers of builds, of
/// failures, of programs that still had a site in a function that no code calls, and of programs
/// with equal records.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 7]| {
        let [factor, value, built, ran, failed, dead, twice] = cells;
        let _ = writeln!(
            text,
            "{factor:<17} {value:<11} {built:>6} {ran:>6} {failed:>7} {dead:>11} {twice:>14}"
        );
    };
    line(["factor", "value", "built", "ran", "failed", "dead sites", "records twice"]);
    for (index, factor) in FACTORS.iter().enumerate() {
        for (value, name) in factor.values.iter().enumerate() {
            let own: Vec<_> = results
                .outcomes
                .iter()
                .filter(|outcome| outcome.config.0[index] == value)
                .collect();
            let count = |what: &dyn Fn(&Outcome) -> bool| {
                own.iter().filter(|outcome| what(outcome)).count().to_string()
            };
            let dead =
                |outcome: &Outcome| outcome.result.as_ref().is_ok_and(|summary| summary.dead > 0);
            let twice =
                |outcome: &Outcome| outcome.result.as_ref().is_ok_and(|summary| summary.twice > 0);
            line([
                if value == 0 { factor.name } else { "" },
                name,
                &own.len().to_string(),
                &count(&|outcome| outcome.ran),
                &count(&|outcome| outcome.result.is_err()),
                &count(&dead),
                &count(&twice),
            ]);
        }
    }
    text
}

/// Returns the content of the result file.
pub fn json(results: &Results) -> String {
    let versions = results.versions.iter().map(|(name, text)| (name.as_str(), string(text)));
    let outcomes = results.outcomes.iter().map(|outcome| {
        let mut fields = vec![
            ("config", string(&outcome.config.to_string())),
            ("seconds", format!("{:.2}", outcome.seconds)),
            ("ran", outcome.ran.to_string()),
        ];
        match &outcome.result {
            Ok(summary) => fields.extend([
                ("result", string("ok")),
                ("patchlets", summary.patchlets.to_string()),
                ("sites", summary.sites.to_string()),
                ("dead_sites", summary.dead.to_string()),
                ("records_twice", summary.twice.to_string()),
            ]),
            Err(reason) => fields.extend([
                ("result", string("failed")),
                ("reason", string(reason)),
                ("repeat", string(&repeat(&outcome.config))),
            ]),
        }
        object(fields)
    });
    let impossible = results.impossible.iter().map(|one| {
        let attempt = one.attempt.as_ref();
        let said = match attempt.map(|attempt| attempt.failure.as_deref()) {
            None => "null".to_owned(),
            Some(failure) => string(failure.unwrap_or_default()),
        };
        object(vec![
            ("combination", string(&one.combination)),
            ("reason", string(one.reason)),
            ("tried", string(&one.config.to_string())),
            ("said", said),
        ])
    });
    let failed = results.outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    let text = object(vec![
        ("date", string(&results.date)),
        ("versions", object(versions.collect())),
        ("seconds", format!("{:.0}", results.seconds)),
        ("built", results.outcomes.len().to_string()),
        ("failed", failed.to_string()),
        ("pairs_covered", results.pairs_covered.to_string()),
        ("pairs_impossible", array(results.pairs_impossible.iter().map(|pair| string(pair)))),
        ("impossible", array(impossible)),
        ("outcomes", array(outcomes)),
    ]);
    text + "\n"
}

fn object(fields: Vec<(&str, String)>) -> String {
    let fields: Vec<_> =
        fields.into_iter().map(|(name, value)| format!("{}: {value}", string(name))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn array(values: impl Iterator<Item = String>) -> String {
    format!("[\n{}\n]", values.collect::<Vec<_>>().join(",\n"))
}

fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Failures by their reason without its numbers, the most frequent first.
pub fn reasons(outcomes: &[Outcome]) -> Vec<(usize, String)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reason in outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()) {
        let plain: String = reason.chars().filter(|c| !c.is_ascii_digit()).take(100).collect();
        *counts.entry(plain).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().map(|(reason, count)| (count, reason)).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}
