//! The comparison of text with a dump, page by page and site by site.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::insn::Width;
use crate::inspect::explain::{Explained, Explanation, Located, Verdict};
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::state::{FeaturesFrom, State};
use crate::inspect::linux::text::{Area, Cause, Depends, PatchedSite, Text, is_kept};
use crate::inspect::linux::unpack::bounds;

/// Size of a page.
const PAGE: u64 = 0x1000;

/// Returns what is known of the CPU's features, as a sentence.
fn words_of_features(state: &State<'_, '_>) -> String {
    let features = &state.features;
    let inferred = match features.inferred() {
        0 => String::new(),
        number => format!("; {number} more are taken from what most of their sites are"),
    };
    match state.features_from {
        FeaturesFrom::Dump => {
            format!("{} words of CPU features read from boot_cpu_data", features.words())
        }
        FeaturesFrom::CommandLine => {
            format!("the features of the CPU are those of --cpu{inferred}")
        }
        FeaturesFrom::Nowhere => format!(
            "the features of the CPU were not found, so alternatives cannot be proven \
             (--cpu MODEL says them){inferred}"
        ),
    }
}

/// Returns a sentence about what the dump and the command line both say of the CPU, and say
/// differently, if there is such a thing.
fn contradictions(kernel: &LinuxKernel<'_>, state: &State<'_, '_>) -> Option<String> {
    let cpu = kernel.cpu.as_ref().filter(|_| state.features_from == FeaturesFrom::Dump)?;
    let numbers = state.features.contradictions(cpu);
    let names = numbers.iter().map(|&number| kernel.feature_names.words_for(number));
    let names: Vec<String> = names.collect();
    (!names.is_empty())
        .then(|| format!("the dump says otherwise than --cpu of: {}", names.join(", ")))
}

/// Sites that overlap, as one range.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Numbers of the sites, in the order of the rules.
    pub(super) sites: Vec<usize>,
}

/// The comparison of text with a dump.
pub(super) struct Comparison<'a, 'd> {
    pub(super) kernel: &'a LinuxKernel<'d>,
    pub(super) located: &'a Located<'a, 'a>,
    pub(super) state: &'a State<'a, 'a>,
    pub(super) text: &'a Text<'d>,
    pub(super) all: bool,
    /// Groups of sites, sorted by address.
    pub(super) groups: Vec<Group>,
    /// The addresses of the kernel in the file, with the one behind its last byte.
    pub(super) bounds: RangeInclusive<u64>,
    /// The size of the data of each CPU that is linked at address 0.
    pub(super) size_of_percpu: u64,
    pub(super) explanation: Explanation,
}

impl<'a, 'd> Comparison<'a, 'd> {
    pub(super) fn new(
        kernel: &'a LinuxKernel<'d>,
        located: &'a Located<'a, 'a>,
        state: &'a State<'a, 'a>,
        text: &'a Text<'d>,
        all: bool,
    ) -> Self {
        let mut order: Vec<usize> = (0..text.sites.len()).collect();
        let site = |at: usize| text.sites.get(at).copied();
        order.sort_by_key(|&at| site(at).map(|site| (site.address, at)));
        let mut groups: Vec<Group> = Vec::new();
        for at in order {
            let Some(PatchedSite { address, len, .. }) = site(at) else { continue };
            match groups.last_mut() {
                Some(last) if address < last.end => {
                    last.end = last.end.max(address + len);
                    last.sites.push(at);
                }
                _ => groups.push(Group { start: address, end: address + len, sites: vec![at] }),
            }
        }
        for group in &mut groups {
            group.sites.sort_unstable();
        }
        let mut notes = vec![words_of_features(state)];
        notes.extend(contradictions(kernel, state));
        let explanation = Explanation::new(located, notes);
        let sections = kernel.image.sections();
        let percpu =
            sections.iter().find(|section| section.name == ".data..percpu" && section.address == 0);
        Self {
            kernel,
            located,
            state,
            text,
            all,
            groups,
            bounds: bounds(&kernel.image),
            size_of_percpu: percpu.map_or(0, |percpu| percpu.size),
            explanation,
        }
    }

    /// Compares all text.
    pub(super) fn run(mut self) -> Explanation {
        for area in &self.text.areas {
            let end = area.address + area.file.len() as u64;
            let mut at = area.address;
            // A range that begins in one page can end in the next.
            let mut done = at;
            while at < end {
                let page_end = ((at | (PAGE - 1)).saturating_add(1)).min(end);
                self.page(area, at, page_end, &mut done);
                at = page_end;
            }
        }
        self.explanation
    }

    /// Compares the bytes `start..end` of a page, from `done` on.
    fn page(&mut self, area: &Area<'d>, start: u64, end: u64, done: &mut u64) {
        let size = end - start;
        let offset = (start - area.address) as usize;
        let range = offset..offset + size as usize;
        // Without page tables that can tell, the names of sections do.
        let executable = self.located.is_executable(start);
        if !executable.unwrap_or_else(|| is_kept(area.name)) {
            self.explanation.not_executable += size;
            return;
        }
        let Some(seen) = self.located.bytes(start, size as usize) else {
            self.explanation.missing += size;
            return;
        };
        self.explanation.compared += size;
        let (Some(file), Some(expected)) = (area.file.get(range.clone()), area.expected.get(range))
        else {
            return;
        };
        if seen == file && seen == expected {
            return;
        }
        for (at, ((&seen, &file), &expected)) in seen.iter().zip(file).zip(expected).enumerate() {
            let address = start + at as u64;
            if address >= *done && (seen != file || seen != expected) {
                *done = self.difference(address, seen == expected);
            }
        }
    }

    /// Explains the byte at an address, and returns the address behind what was explained with it.
    fn difference(&mut self, address: u64, as_expected: bool) -> u64 {
        let behind = self.groups.partition_point(|group| group.start <= address);
        let group = behind.checked_sub(1).and_then(|at| self.groups.get(at));
        if let Some(group) = group.filter(|group| address < group.end) {
            let group = group.clone();
            self.group(&group, address);
            return group.end;
        }
        let next = self.groups.get(behind).map_or(u64::MAX, |group| group.start);
        if as_expected {
            // Not a site, but as it should be: an address that moved with the kernel.
            let end = self
                .end_of_run(address, next, |seen, file, expected| seen != file && seen == expected);
            self.count(Cause::Moved, Verdict::Proven, address, end);
            return end;
        }
        if self.kernel.relocated.is_none()
            && let Some(end) = self.moved_address(address)
        {
            self.count(Cause::Moved, Verdict::Proven, address, end);
            return end;
        }
        if let Some(len) = self.kprobe_len(address)
            && next >= address + len as u64
        {
            self.count(Cause::Kprobe, Verdict::Allowed, address, address + len as u64);
            return address + len as u64;
        }
        let end = self.end_of_run(address, next, |seen, _, expected| seen != expected);
        self.count(Cause::Nothing, Verdict::Unexplained, address, end);
        end
    }

    /// Returns the end of the run of bytes from an address on for which `holds`, which is asked
    /// with the byte that is seen, that of the file, and the one that is expected.
    fn end_of_run(&self, address: u64, most: u64, holds: impl Fn(u8, u8, u8) -> bool) -> u64 {
        let mut end = address + 1;
        while end < most
            && let (Some(&[seen]), Some(&[file]), Some(&[expected])) =
                (self.located.bytes(end, 1), self.text.file(end, 1), self.text.expected(end, 1))
            && holds(seen, file, expected)
        {
            end += 1;
        }
        end
    }

    /// Returns what the dump has from an address on, also if it is in several of its parts. What it
    /// does not have is taken for as expected.
    fn seen(&self, start: u64, expected: &[u8]) -> Cow<'a, [u8]> {
        if let Some(bytes) = self.located.bytes(start, expected.len()) {
            return Cow::Borrowed(bytes);
        }
        let bytes = (start..).zip(expected);
        let seen = |address| self.located.bytes(address, 1)?.first().copied();
        bytes.map(|(address, &expected)| seen(address).unwrap_or(expected)).collect()
    }

    /// Explains a group of sites, in which the byte at an address differs.
    fn group(&mut self, group: &Group, address: u64) {
        let len = (group.end - group.start) as usize;
        let Some(expected) = self.text.expected(group.start, len) else { return };
        let seen = &*self.seen(group.start, expected);
        let sites = group.sites.iter().rev().filter_map(|&at| self.text.sites.get(at));
        let sites: Vec<PatchedSite> = sites.copied().collect();
        let covers =
            |site: &&PatchedSite| site.address <= address && address < site.address + site.len;
        let cause = sites.iter().find(covers).map_or(Cause::Nothing, |site| site.cause);
        if seen == expected || self.differs_by_moved_addresses(seen, expected, group.start) {
            let verdict = match sites.iter().all(|site| site.decided) {
                true => Verdict::Proven,
                false => Verdict::Allowed,
            };
            self.count(cause, verdict, group.start, group.end);
            return;
        }
        let differing = seen.iter().zip(expected).filter(|(seen, expected)| seen != expected);
        let differing = differing.count();
        let allowed = sites.iter().find_map(|site| self.allowed(group, site, differing));
        match allowed {
            Some(cause) => self.count(cause, Verdict::Allowed, group.start, group.end),
            None => self.count(cause, Verdict::Unexplained, group.start, group.end),
        }
    }

    /// Counts a range, and puts it on the list.
    fn count(&mut self, cause: Cause, verdict: Verdict, start: u64, end: u64) {
        let len = (end - start) as usize;
        let file = self.text.file(start, end - start).unwrap_or_default();
        let expected = self.text.expected(start, len).unwrap_or_default();
        let seen = self.seen(start, expected);
        let explained = Explained {
            address: match self.kernel.image.width() {
                Width::Bits64 => start.wrapping_add(self.located.slide),
                Width::Bits32 => start.wrapping_add(self.located.slide) & 0xffff_ffff,
            },
            address_in_file: start,
            function: self.kernel.names.place(start),
            cause: cause_name(cause),
            depends: self.depends(cause),
            file: file.to_vec(),
            expected: expected.to_vec(),
            seen: seen.to_vec(),
            verdict,
        };
        self.explanation.add(explained, self.all);
    }

    /// Returns what bytes of a cause depend on, in words.
    fn depends(&self, cause: Cause) -> String {
        let depends = match cause {
            Cause::Record(_, depends) => depends,
            Cause::Tracer(variable) => Depends::Variable(variable),
            Cause::Kprobe => return "kprobe_table".to_owned(),
            Cause::Moved | Cause::Nothing => return String::new(),
        };
        match depends {
            Depends::Feature(number, absent) => {
                let not = if absent { "!" } else { "" };
                format!("{not}{}", self.kernel.feature_names.words_for(number))
            }
            Depends::Variable(address) => {
                // Without the names of variables the last name before it is that of a function.
                let section = |address| self.kernel.image.section_at(address);
                let section = |address| section(address).map(|section| section.address);
                let start = self.kernel.names.start(address);
                match start.is_some_and(|start| section(start) == section(address)) {
                    true => self.kernel.names.place(address),
                    false => format!("variable at {address:#x}"),
                }
            }
            Depends::Cpus => "number of CPUs".to_owned(),
            Depends::Mitigation => "mitigations".to_owned(),
            Depends::Boot => String::new(),
            Depends::RunTime => "what is not in the file".to_owned(),
        }
    }
}

/// Returns the name by which a cause is counted and printed.
const fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Record(kind, _) => kind.name(),
        Cause::Moved => "moved-address",
        Cause::Kprobe => "kprobe",
        Cause::Tracer(_) => "tracer",
        Cause::Nothing => "none",
    }
}
