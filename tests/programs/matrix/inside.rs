//! Compares what the program prints about itself when it runs with what its file says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::binary::{Binary, Patchlet, Site};
use super::checks::Summary;
use super::factors::Config;
use super::support::meaning::hex;

/// Returns whether the program of a configuration can run on this machine.
pub fn runs(config: &Config) -> bool {
    !config.is("place", "high")
}

/// Runs it, and compares.
///
/// # Errors
/// The first difference.
pub fn check(program: &Path, binary: &Binary, summary: &Summary) -> Result<(), String> {
    // It ends at once, or it hangs.
    let output = Command::new("timeout")
        .arg("20")
        .arg(program)
        .output()
        .map_err(|error| format!("timeout does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut said = Said::default();
    for line in text.lines() {
        said.line(line).ok_or_else(|| format!("it said `{line}`"))?;
    }
    if !output.status.success() || !said.end {
        let last = text.lines().last().unwrap_or_default();
        return Err(format!("it ended with {}, its last line being `{last}`", output.status));
    }
    said.check(binary, summary)
}

/// All it says.
#[derive(Debug, Default)]
struct Said {
    start: u64,
    patchlets: Vec<(String, u64, u64, String)>,
    table: u64,
    sites: Vec<Site>,
    reports: Vec<(String, Vec<u64>)>,
    end: bool,
}

impl Said {
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let title = words.next()?;
        if title == "patchlet" {
            let name = words.next()?.to_owned();
            let (address, native) = (number(words.next()?)?, number(words.next()?)?);
            self.patchlets.push((name, address, native, words.next()?.to_owned()));
            return Some(());
        }
        if title == "failed" {
            return Some(());
        }
        let numbers: Vec<u64> = words.map(number).collect::<Option<_>>()?;
        match (title, &numbers[..]) {
            ("start", [start]) => self.start = *start,
            ("table", [size]) => self.table = *size,
            ("site", &[address, slot, op, capacity, kind]) => self.sites.push(Site {
                address,
                slot,
                op: op.try_into().ok()?,
                capacity: capacity.try_into().ok()?,
                kind: kind.try_into().ok()?,
            }),
            ("end", []) => self.end = true,
            ("writable" | "apply" | "again" | "revert" | "effects", _) => {
                self.reports.push((title.to_owned(), numbers));
            }
            _ => return None,
        }
        Some(())
    }

    fn check(&self, binary: &Binary, summary: &Summary) -> Result<(), String> {
        // Where the loader put it, relative to where it was linked.
        let bias = self.start.wrapping_sub(binary.entry);
        let here = |address: u64| address.wrapping_sub(bias);

        let said: BTreeSet<_> = self
            .patchlets
            .iter()
            .map(|(name, address, native, bytes)| {
                (name.clone(), here(*address), here(*native), bytes.clone())
            })
            .collect();
        // The program does not name the set by CPU feature, and so does not print it.
        let is_named = |patchlet: &&Patchlet| !patchlet.name.starts_with("cpu_");
        let found: BTreeSet<_> = binary
            .patchlets
            .iter()
            .filter(is_named)
            .map(|patchlet| {
                let bytes = hex(&patchlet.bytes).replace(' ', "");
                (patchlet.name.clone(), patchlet.address, patchlet.native, bytes)
            })
            .collect();
        if let Some((name, ..)) = said.symmetric_difference(&found).next() {
            return Err(format!("patchlet `{name}` is another one inside than in the file"));
        }

        let records = self.sites.iter().map(|site| Site {
            address: here(site.address),
            slot: here(site.slot),
            ..*site
        });
        if self.table != 12 * binary.sites.len() as u64 || !records.eq(binary.sites.iter().copied())
        {
            return Err("the table of records is another one inside than in the file".to_owned());
        }

        let Summary { sites, calls, twice, .. } = *summary;
        let [sites, calls, twice] = [sites, calls, twice].map(|count| count as u64);
        // Records are counted; where there are two of a site, the second finds it changed.
        let changed = sites - twice;
        let expected: [(&str, &[u64]); 4] = [
            ("writable", &[1]),
            ("apply", &[sites, changed, sites - calls, calls, 0]),
            ("again", &[sites, 0, sites - calls, calls, 0]),
            ("revert", &[sites, changed, 0, 0, sites]),
        ];
        for (title, numbers) in expected {
            let said = self.reports.iter().find(|(said, _)| said == title);
            if said.is_none_or(|(_, said)| said != numbers) {
                return Err(format!("it reports {said:x?}, not {title} {numbers:x?}"));
            }
        }
        match self.reports.iter().find(|(title, _)| title == "effects").map(|(_, said)| &said[..]) {
            Some(&[before, patched, reverted, 3]) if before == patched && before == reverted => {
                Ok(())
            }
            said => Err(format!("its effects before, patched, reverted, ticks: {said:x?}")),
        }
    }
}

fn number(word: &str) -> Option<u64> {
    u64::from_str_radix(word, 16).ok()
}
