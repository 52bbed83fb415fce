//! Infers features of the CPU from the text, where neither the dump nor the command line says them.
//! A feature is either there for the whole kernel or for no site, so all sites that depend on it
//! are asked, and what most of them say is taken. The others are then unexplained.

use std::collections::BTreeMap;

use super::choose::usual;
use crate::inspect::explain::Located;
use crate::inspect::linux::features::{KernelFeatures, feature};
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::rules::{Rules, feature_of, groups};
use crate::inspect::linux::state::State;
use crate::inspect::linux::tables::{TableKind, TableRecord};
use crate::inspect::linux::text::Text;

/// The number of sites that say that a feature is there, and of those that say that it is not.
type Votes = BTreeMap<u16, (usize, usize)>;

/// The most features of one site that are tried in every combination.
const MOST_AT_ONE_SITE: usize = 3;

/// Infers all features that are not known and on which text depends.
pub(super) fn infer(
    kernel: &LinuxKernel<'_>,
    state: &mut State<'_, '_>,
    located: &Located<'_, '_>,
    moved: &Text<'_>,
) {
    if state.features.is_complete() {
        return;
    }
    // What is in the replacements of alternatives comes first.
    take(&mut state.features, &votes_of_thunks(kernel, located, moved));
    // A site with many features that are not known is asked when some of them are.
    for _ in 0..2 {
        let votes = votes_of_alternatives(kernel, state, located, moved);
        take(&mut state.features, &votes);
    }
}

/// Takes what most sites say.
fn take(features: &mut KernelFeatures, votes: &Votes) {
    for (&number, &(there, not_there)) in votes {
        if features.has_or_inferred(number).is_none() && there != not_there {
            features.infer(number, there > not_there);
        }
    }
}

/// Asks the sites of returns, of retpolines and of counted calls.
fn votes_of_thunks(kernel: &LinuxKernel<'_>, located: &Located<'_, '_>, moved: &Text<'_>) -> Votes {
    let mut votes = Votes::new();
    let mut vote = |number: u16, is_there: bool| {
        let (there, not_there) = votes.entry(number).or_default();
        if is_there {
            *there += 1;
        } else {
            *not_there += 1;
        }
    };
    for table in &kernel.tables {
        for record in &table.records {
            let Some(seen) = located.bytes(record.site, 5) else { continue };
            match (table.kind, seen) {
                (TableKind::Returns, [0xc3, ..]) => vote(feature::RETHUNK, false),
                (TableKind::Returns, [0xe9, ..]) => vote(feature::RETHUNK, true),
                (TableKind::Retpolines, [0xe8 | 0xe9, ..]) => {
                    vote(feature::RETPOLINE, true);
                    vote(feature::RETPOLINE_LFENCE, false);
                }
                (TableKind::Retpolines, [0x0f, 0xae, 0xe8, ..]) => {
                    vote(feature::RETPOLINE_LFENCE, true);
                }
                // With prefixes that fill the site.
                (
                    TableKind::Retpolines,
                    [0xff, ..] | [0x41, 0xff, ..] | [0x2e, 0x2e | 0x41 | 0xff, ..],
                ) => {
                    vote(feature::RETPOLINE, false);
                    vote(feature::RETPOLINE_LFENCE, false);
                }
                (TableKind::Calls, [0xe8, ..]) => {
                    let is_counted = moved.expected(record.site, 5) != Some(seen);
                    vote(feature::CALL_DEPTH, is_counted);
                }
                _ => {}
            }
        }
    }
    votes
}

/// Asks the sites of alternatives. Each is written for every combination of the features that are
/// not known; if it is in the dump as in some of these, a feature that is the same in all of them
/// has its vote.
fn votes_of_alternatives(
    kernel: &LinuxKernel<'_>,
    state: &State<'_, '_>,
    located: &Located<'_, '_>,
    moved: &Text<'_>,
) -> Votes {
    let mut votes = Votes::new();
    let mut text = moved.clone();
    let rules = |assumed| Rules {
        image: &kernel.image,
        names: &kernel.names,
        tables: &kernel.tables,
        state,
        habits: usual(kernel),
        assumed,
    };
    let before = rules(vec![]);
    before.paravirt(&mut text);
    before.retpolines(&mut text);
    before.returns(&mut text);
    let tables = kernel.tables.iter().filter(|table| table.kind == TableKind::Alternatives);
    let records: Vec<&TableRecord> = tables.flat_map(|table| &table.records).collect();
    for group in groups(&records) {
        let numbers = group.iter().map(|record| feature_of(record).0);
        let mut unknown: Vec<u16> = numbers.filter(|&number| state.has(number).is_none()).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let Some(&TableRecord { site, length, .. }) = group.first() else { continue };
        let length = usize::from(length);
        let (Some(file), Some(seen)) = (text.expected(site, length), located.bytes(site, length))
        else {
            continue;
        };
        if unknown.is_empty() || unknown.len() > MOST_AT_ONE_SITE {
            continue;
        }
        let file = file.to_vec();
        let mut fits = vec![];
        for combination in 0..1_u32 << unknown.len() {
            let numbers = unknown.iter().copied().enumerate();
            let assumed: Vec<(u16, bool)> =
                numbers.map(|(bit, number)| (number, combination >> bit & 1 == 1)).collect();
            let rules = rules(assumed);
            rules.alternatives_of_site(&mut text, &group);
            if text.expected(site, length) == Some(seen) {
                fits.push(rules.assumed);
            }
            text.write(site, &file);
        }
        for (at, &number) in unknown.iter().enumerate() {
            let mut values = fits.iter().filter_map(|fit| fit.get(at)).map(|(_, is)| *is);
            let Some(first) = values.next() else { continue };
            if values.all(|value| value == first) {
                let (there, not_there) = votes.entry(number).or_default();
                *(if first { there } else { not_there }) += 1;
            }
        }
    }
    votes
}
