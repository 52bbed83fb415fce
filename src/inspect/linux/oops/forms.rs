//! The forms that a site can have. What decides is not in a log, so the rules are asked with every
//! state that can matter at the site: its features there and not, its key on and off, its function
//! the one that is seen.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::inspect::linux::explain::move_text;
use crate::inspect::linux::file_state::in_file;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::rules::{Rules, TRACERS, target_of_branch};
use crate::inspect::linux::site_groups::{SiteGroup, groups_in};
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Area, Text};

/// The bytes that a site can have, and when it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteForm {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The state in which the site has them, in words.
    pub condition: String,
}

/// The most records of a site whose forms are computed, and the most states in which they are.
const MOST_RECORDS: usize = 64;
const MOST_STATES: usize = 1024;

/// The sites in a range of text, and the text around them.
pub(in crate::inspect::linux) struct Forms<'a, 'd> {
    pub(super) kernel: &'a LinuxKernel<'d>,
    pub sites: Vec<SiteGroup>,
    /// The text of the file, moved to where the kernel runs: around the range, and what is copied
    /// into it.
    pub text: Text<'d>,
    /// The thunks through which returns can go.
    pub(super) return_thunks: Vec<u64>,
}

impl<'a, 'd> Forms<'a, 'd> {
    /// Reads the sites of a range. `slide` is how far the kernel was moved.
    pub(super) fn new(kernel: &'a LinuxKernel<'d>, range: &Range<u64>, slide: u64) -> Self {
        Self::of_groups(kernel, groups_in(kernel, range), range, slide, return_thunks(kernel))
    }

    /// Reads some sites, with the text in a range around them.
    pub(in crate::inspect::linux) fn of_groups(
        kernel: &'a LinuxKernel<'d>,
        sites: Vec<SiteGroup>,
        range: &Range<u64>,
        slide: u64,
        return_thunks: Vec<u64>,
    ) -> Self {
        /// More than an instruction has, and than what stands in front of a function.
        const AROUND: u64 = 64;
        let mut ranges = Vec::new();
        ranges.push(range.start.saturating_sub(AROUND)..range.end.saturating_add(AROUND));
        for site in &sites {
            ranges.push(site.start..site.end.saturating_add(AROUND));
            for table in &site.tables {
                for record in &table.records {
                    if table.kind == TableKind::Alternatives {
                        // One of no bytes lies somewhere, too, at the end of a section perhaps.
                        let end = record.other.saturating_add(u64::from(record.other_length) + 1);
                        ranges.push(record.other.saturating_sub(1)..end);
                    }
                    // The function that is called, in front of which calls are counted.
                    if let Some(target) = target_of_branch(record.site, kernel.code(record.site, 5))
                    {
                        ranges.push(target.saturating_sub(16)..target);
                    }
                }
            }
        }
        let mut text = Text { areas: areas(kernel, ranges), sites: vec![] };
        if slide != 0 {
            move_text(kernel, slide, &mut text);
        }
        Self { kernel, sites, text, return_thunks }
    }

    /// Returns the bytes of the file, moved to where the kernel runs.
    pub(super) fn moved(&self, address: u64, len: usize) -> Option<&[u8]> {
        self.text.expected(address, len)
    }

    /// Returns the forms of a site. Where a branch leads to whatever function is in a variable, it
    /// is the one of the branch in `seen`, if that leads to one.
    pub(in crate::inspect::linux) fn of(
        &self,
        site: &SiteGroup,
        seen: &[Option<u8>],
    ) -> Vec<SiteForm> {
        let Ok(len) = usize::try_from(site.end - site.start) else { return vec![] };
        let mut forms: Vec<SiteForm> = Vec::new();
        // How many conditions each form has, by its bytes.
        let mut known: HashMap<Vec<u8>, (usize, HashSet<String>)> = HashMap::new();
        let mut add = |bytes: &[u8], condition: &str| {
            /// With more of them a form is possible in nearly every state.
            const MOST: usize = 3;
            let at = forms.len();
            let (at, conditions) = known.entry(bytes.to_vec()).or_insert((at, HashSet::new()));
            if conditions.len() >= MOST || !conditions.insert(condition.to_owned()) {
                return;
            }
            match forms.get_mut(*at) {
                Some(form) => form.condition = format!("{}; or {condition}", form.condition),
                None => {
                    let condition = condition.to_owned();
                    forms.push(SiteForm { bytes: bytes.to_vec(), condition });
                }
            }
        };
        let records: usize = site.tables.iter().map(|table| table.records.len()).sum();
        // Real sites have a few records. Time is limited for files that were made up.
        let (habits, tables) = (self.habits(site), self.tables(site));
        let (features, overrides) = match records {
            0..=MOST_RECORDS => (self.features(site), self.overrides(site, seen)),
            _ => (vec![], vec![]),
        };
        let sets = features.len();
        for (features, with) in &features {
            for (bytes, words) in overrides.iter().take(MOST_STATES / sets.max(1)) {
                let both = [&**with, &**words].into_iter();
                let condition: Vec<&str> = both.filter(|words| !words.is_empty()).collect();
                let condition = match &*condition {
                    [] => "as the kernel patches it when it boots".to_owned(),
                    condition => condition.join(", "),
                };
                in_file(self.kernel, features, bytes, |state| {
                    for &habits in &habits {
                        let mut text = self.text.clone();
                        let (image, names) = (&self.kernel.image, &self.kernel.names);
                        let (tables, assumed) = (&*tables, vec![]);
                        let rules = Rules { image, names, tables, state, habits, assumed };
                        rules.apply_to_records(&mut text);
                        if let Some(bytes) = text.expected(site.start, len) {
                            add(bytes, &condition);
                        }
                    }
                });
            }
        }
        for (bytes, words) in self.beyond_the_rules(site, seen, len) {
            add(&bytes, words);
        }
        // Before the kernel has patched it.
        if let Some(file) = self.text.expected(site.start, len)
            && forms.iter().all(|form| form.bytes != file)
        {
            let condition = "not patched".to_owned();
            forms.push(SiteForm { bytes: file.to_vec(), condition });
        }
        forms
    }

    /// Returns forms that no rule gives, since they depend on what is made at run time.
    fn beyond_the_rules(
        &self,
        site: &SiteGroup,
        seen: &[Option<u8>],
        len: usize,
    ) -> Vec<(Vec<u8>, &'static str)> {
        let file = self.text.expected(site.start, len).unwrap_or_default();
        let mut more = Vec::new();
        for table in &site.tables {
            for record in &table.records {
                let Ok(at) = usize::try_from(record.site - site.start) else { continue };
                let mut bytes = file.to_vec();
                match table.kind {
                    TableKind::SmpLocks if bytes.get(at) == Some(&0xf0) => {
                        bytes[at] = 0x3e;
                        more.push((bytes, "one CPU runs alone"));
                    }
                    TableKind::Ftrace => {
                        let Some(here) = known(seen, at, 5) else { continue };
                        let is_tracer = |target| {
                            // A trampoline of the tracer is in no section.
                            self.kernel.names.is_one_of(target, TRACERS)
                                || self.kernel.image.section_at(target).is_none()
                        };
                        if here.first() == Some(&0xe8)
                            && target_of_branch(record.site, &here).is_some_and(is_tracer)
                            && let Some(to) = bytes.get_mut(at..at + 5)
                        {
                            to.copy_from_slice(&here);
                            more.push((bytes, "the function is traced"));
                        }
                    }
                    // A branch that the end of the bytes cuts.
                    TableKind::StaticCalls | TableKind::Paravirt | TableKind::Alternatives => {
                        let of = seen.get(at..at + 5).unwrap_or_default();
                        let is_cut = matches!(of, [Some(0xe8 | 0xe9), .., None])
                            && (table.kind != TableKind::Alternatives
                                || self.kernel.slot_of(record.site).is_some());
                        if is_cut && let Some(to) = bytes.get_mut(at..at + 5) {
                            for (to, seen) in to.iter_mut().zip(of) {
                                *to = seen.unwrap_or(*to);
                            }
                            more.push((bytes, "a function of which the log has only a part"));
                        } else if record.key == 0
                            && table.kind == TableKind::StaticCalls
                            && of.first() == Some(&Some(0xe9))
                            && self.function(record.site, seen, at).is_some()
                            && let (Some(here), Some(to)) =
                                (known(seen, at, 5), bytes.get_mut(at..at + 5))
                        {
                            to.copy_from_slice(&here);
                            more.push((bytes, "the function of a key that has no name"));
                        }
                    }
                    TableKind::RuntimePointers
                    | TableKind::RuntimeShifts
                    | TableKind::RuntimeMasks => {
                        if let Some(here) = known(seen, at, len - at)
                            && let Some(to) = bytes.get_mut(at..)
                        {
                            to.copy_from_slice(&here);
                            more.push((bytes, "a value that is known when the kernel has started"));
                        }
                    }
                    _ => {}
                }
            }
        }
        more
    }
}

/// Returns the thunks through which returns can go.
pub(in crate::inspect::linux) fn return_thunks(kernel: &LinuxKernel<'_>) -> Vec<u64> {
    /// How many are tried. Kernels have about five.
    const MOST: usize = 16;
    kernel.names.of(|name| name.ends_with("return_thunk")).take(MOST).collect()
}

/// Returns `len` bytes if all of them are known.
pub(super) fn known(seen: &[Option<u8>], at: usize, len: usize) -> Option<Vec<u8>> {
    seen.get(at..at.checked_add(len)?)?.iter().copied().collect()
}

/// Returns the text in some ranges, which can overlap.
fn areas<'d>(kernel: &LinuxKernel<'d>, mut ranges: Vec<Range<u64>>) -> Vec<Area<'d>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    let mut areas = Vec::new();
    let mut text: Vec<_> =
        kernel.image.sections().iter().filter(|section| section.is_executable()).collect();
    text.sort_by_key(|section| section.address);
    for section in text {
        for range in &merged {
            let start = range.start.max(section.address);
            let end = range.end.min(section.address + section.data.len() as u64);
            let Some(len) = end.checked_sub(start).filter(|&len| len > 0) else { continue };
            let Ok(len) = usize::try_from(len) else { continue };
            let file = kernel.code(start, len);
            let name = section.name;
            areas.push(Area { name, address: start, file, expected: file.to_vec() });
        }
    }
    areas
}
