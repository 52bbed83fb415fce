//! Compares the text of one object with the dump, byte by byte, sites as a whole.

use std::borrow::Cow;

use super::judge::Judged;
use super::object::{Object, Running};
use super::sites::RunningSite;
use super::text::{ProgramArea, ProgramText};
use super::words::Words;
use crate::inspect::explain::{Explained, Explanation, Verdict};

/// Size of a page.
const PAGE: u64 = 0x1000;

/// The comparison of one object.
pub(super) struct ObjectComparison<'c, 'a, 'd> {
    pub running: &'c Running<'a, 'd>,
    pub object: &'c Object<'a, 'd>,
    pub text: &'c ProgramText<'d>,
    /// The sites of the object, sorted by address, with what was found of each.
    pub sites: Vec<(&'c RunningSite<'a>, &'c Judged)>,
    pub words: &'c Words,
    pub all: bool,
    pub explanation: &'c mut Explanation,
}

impl<'a> ObjectComparison<'_, 'a, '_> {
    /// Compares all text of the object.
    pub fn run(mut self) {
        let text = self.text;
        let mut next = 0;
        for area in &text.areas {
            let mut at = area.address;
            while let Some(&(site, judged)) = self.sites.get(next) {
                let end = site.address.saturating_add(site.len.into());
                if site.address >= at && end > area.end() {
                    break;
                }
                next += 1;
                // A site that lies before the area is in no text that can be executed.
                if site.address >= at {
                    self.between(area, at, site.address);
                    self.site(area, site, judged);
                    at = end;
                }
            }
            self.between(area, at, area.end());
        }
    }

    /// Compares bytes in which there is no site.
    fn between(&mut self, area: &ProgramArea<'_>, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let page_end = (at | (PAGE - 1)).saturating_add(1).min(end);
            self.page(area, at, page_end);
            at = page_end;
        }
    }

    /// Compares bytes of one page in which there is no site.
    fn page(&mut self, area: &ProgramArea<'_>, start: u64, end: u64) {
        let len = (end - start) as usize;
        let Some(seen) = self.memory(start, len) else { return };
        let Some(expected) = area.unpatched(start, len) else { return };
        let file = area.in_file(start, len).unwrap_or_default();
        if *seen == *file && *file == *expected {
            return;
        }
        let kinds: Vec<Option<bool>> = (seen.iter().zip(file).zip(&expected))
            .map(|((seen, file), expected)| {
                (seen != file || seen != expected).then_some(seen == expected)
            })
            .collect();
        let mut at = 0;
        for run in kinds.chunk_by(|one, other| one == other) {
            let range = at..at + run.len();
            at = range.end;
            let Some(&Some(as_expected)) = run.first() else { continue };
            let (cause, verdict) = match as_expected {
                true => ("moved-address", Verdict::Proven),
                false => ("none", Verdict::Unexplained),
            };
            let part = |bytes: &[u8]| bytes.get(range.clone()).unwrap_or_default().to_vec();
            let (file, expected, seen) = (part(file), part(&expected), part(&seen));
            let address = start + range.start as u64;
            self.add(address, cause, String::new(), [file, expected, seen], verdict);
        }
    }

    /// Compares a site.
    fn site(&mut self, area: &ProgramArea<'_>, site: &RunningSite<'_>, judged: &Judged) {
        let len = usize::from(site.len);
        // A site is compared as a whole, so its first byte decides whether it can be executed.
        if self.memory(site.address, len).is_none() {
            return;
        }
        let file = area.in_file(site.address, len).unwrap_or_default();
        let seen = site.seen.bytes();
        let expected =
            judged.expected.map_or_else(|| file.to_vec(), |buffer| buffer.bytes().to_vec());
        let verdict = judged.state.verdict();
        if verdict == Verdict::Proven && seen == file {
            return;
        }
        let (cause, depends) = self.words.of(site, judged.state);
        let bytes = [file.to_vec(), expected, seen.to_vec()];
        self.add(site.address, cause, depends, bytes, verdict);
    }

    /// Returns bytes of the object in memory, and counts them as what they are: compared, not
    /// executable, or not in the dump.
    fn memory(&mut self, address: u64, len: usize) -> Option<Cow<'a, [u8]>> {
        let (located, size) = (self.running.located, len as u64);
        let running = self.object.running(address);
        let is_executable = match self.object.name() {
            None => located.is_executable(address),
            Some(_) => Some(located.is_executable_at(running)),
        };
        if is_executable == Some(false) {
            self.explanation.not_executable += size;
            return None;
        }
        let bytes = match self.object.name() {
            None => located.bytes(address, len).map(Cow::Borrowed),
            Some(_) => located.virtual_copy(running, len).map(Cow::Owned),
        };
        match bytes {
            Some(_) => self.explanation.compared += size,
            None => self.explanation.missing += size,
        }
        bytes
    }

    /// Counts a range, and puts it on the list.
    fn add(
        &mut self,
        address: u64,
        cause: &'static str,
        depends: String,
        [file, expected, seen]: [Vec<u8>; 3],
        verdict: Verdict,
    ) {
        let function = || match self.object.name() {
            None => self.object.model.function(address),
            Some(name) => format!("{name}: {}", self.object.model.function(address)),
        };
        let is_listed = self.all || verdict != Verdict::Proven;
        let explained = Explained {
            address: self.object.running(address),
            address_in_file: address,
            function: if is_listed { function() } else { String::new() },
            cause,
            depends,
            file,
            expected,
            seen,
            verdict,
        };
        self.explanation.add(explained, self.all);
    }
}
