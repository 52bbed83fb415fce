//! Output that several commands have in common: JSON, counts and findings.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use super::stop::Stop;
use super::terminal::{Paint, Terminal};
use crate::inspect::finding::Findings;

/// A sequence that is serialized while it is made, so that it is never in memory as a whole. The
/// field makes the iterator.
pub(super) struct Stream<F>(pub F);

impl<I, F> Serialize for Stream<F>
where
    I: Iterator<Item: Serialize>,
    F: Fn() -> I,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// Prints a value as one JSON document.
pub(super) fn print_json(terminal: &mut Terminal<'_>, value: &impl Serialize) -> Result<(), Stop> {
    serde_json::to_writer_pretty(&mut *terminal.out, value)?;
    writeln!(terminal.out)?;
    Ok(())
}

/// Returns a number with a noun, such as `1 site` or `2 sites`.
pub(super) fn count(count: usize, of: &str) -> String {
    if count == 1 { format!("1 {of}") } else { format!("{count} {of}s") }
}

/// Prints one line for each finding, then how many of each kind were not kept.
pub(super) fn print_findings(terminal: &mut Terminal<'_>, findings: Findings) -> Result<(), Stop> {
    let counts = findings.counts();
    let mut shown: HashMap<_, usize> = HashMap::new();
    for finding in findings.sorted() {
        *shown.entry(finding.code).or_default() += 1;
        let line = finding.to_string();
        let code = terminal.paint(Paint::Bad, finding.code.name());
        writeln!(terminal.out, "{code}{}", line.get(finding.code.name().len()..).unwrap_or(""))?;
    }
    for (code, count) in counts {
        let more = count - shown.get(&code).copied().unwrap_or(0).min(count);
        if more > 0 {
            writeln!(terminal.out, "{code}: and {more} more of this kind")?;
        }
    }
    Ok(())
}
