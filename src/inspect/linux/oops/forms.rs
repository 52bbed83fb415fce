//! The forms that a site can have. What decides is not in a log, so the rules are asked with every
//! state that can matter at the site: its features there and not, its key on and off, its function
//! the one that is seen.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::insn::Width;
use crate::inspect::elf::little_endian;
use crate::inspect::linux::explain::{move_text, usual};
use crate::inspect::linux::features::{KernelFeatures, feature};
use crate::inspect::linux::file_state::in_file;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::nops::FAMILIES;
use crate::inspect::linux::rules::{Habits, Rules, SEALED_ENDBR};
use crate::inspect::linux::site_groups::{SiteGroup, groups_in};
use crate::inspect::linux::tables::{KernelTable, TableKind};
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

/// Something that is taken to be other than the file says: bytes at an address, with words.
type Override = (Vec<(u64, Vec<u8>)>, String);

/// The most records of a site whose forms are computed, and the most states in which they are.
const MOST_RECORDS: usize = 64;
const MOST_STATES: usize = 1024;

/// The sites in a range of text, and the text around them.
pub(in crate::inspect::linux) struct Forms<'a, 'd> {
    kernel: &'a LinuxKernel<'d>,
    pub sites: Vec<SiteGroup>,
    /// The text of the file, moved to where the kernel runs: around the range, and what is copied
    /// into it.
    pub text: Text<'d>,
    /// The thunks through which returns can go.
    return_thunks: Vec<u64>,
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
                    if let Some(target) = branch_target(record.site, kernel.code(record.site, 5)) {
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

    /// Returns the function that a branch in the log leads to. Its first byte can be missing at the
    /// start of the bytes.
    fn function(&self, site: u64, seen: &[Option<u8>], at: usize) -> Option<u64> {
        let mut seen = seen.get(at..at.checked_add(5)?)?.to_vec();
        let first = seen.first_mut()?;
        *first = first.or(Some(0xe8));
        let target = branch_target(site, &known(&seen, 0, 5)?)?;
        self.kernel.names.at(target).next().is_some().then_some(target)
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
                            const CALLERS: &[&str] = &["ftrace_caller", "ftrace_regs_caller"];
                            // A trampoline of the tracer is in no section.
                            self.kernel.names.is_one_of(target, CALLERS)
                                || self.kernel.image.section_at(target).is_none()
                        };
                        if here.first() == Some(&0xe8)
                            && branch_target(record.site, &here).is_some_and(is_tracer)
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

    /// Returns the tables that the rules are asked with: those of the site, and one of preambles, for
    /// indirect calls are checked if there are any at all.
    fn tables(&self, site: &SiteGroup) -> Vec<KernelTable> {
        let mut tables = site.tables.clone();
        if tables.iter().all(|table| table.kind != TableKind::Cfi) {
            let preambles = self.kernel.tables.iter().find(|table| table.kind == TableKind::Cfi);
            tables.extend(preambles.map(|table| KernelTable {
                name: table.name.clone(),
                records: table.records.first().copied().into_iter().collect(),
                ..*table
            }));
        }
        tables
    }

    /// Returns the habits that matter at a site, each in every form.
    fn habits(&self, site: &SiteGroup) -> Vec<Habits> {
        let width = self.kernel.image.width();
        let mut all = vec![usual(self.kernel)];
        let has = |kind| site.tables.iter().any(|table| table.kind == kind);
        let mut each = |other: &dyn Fn(Habits) -> Vec<Habits>| {
            let more: Vec<Habits> = all.iter().flat_map(|&habits| other(habits)).collect();
            for habits in more {
                if !all.contains(&habits) {
                    all.push(habits);
                }
            }
        };
        each(&|habits| {
            let families = FAMILIES.iter();
            let families = families.filter(|of| of.width.is_none_or(|of| of == width));
            families.map(|nops| Habits { nops, ..habits }).collect()
        });
        if has(TableKind::Retpolines) {
            each(&|habits| vec![Habits { int3_behind_jump: false, ..habits }]);
        }
        if has(TableKind::Paravirt) {
            let other = |of: Habits| Habits { native_sequences: !of.native_sequences, ..of };
            each(&|habits| vec![other(habits)]);
        }
        if has(TableKind::Endbr) && has(TableKind::Cfi) {
            let other = |of: Habits| Habits { hash_is_sealed: !of.hash_is_sealed, ..of };
            each(&|habits| vec![other(habits)]);
        }
        if has(TableKind::Endbr) {
            each(&|habits| {
                let sealed = SEALED_ENDBR.iter();
                sealed.map(|&sealed_endbr| Habits { sealed_endbr, ..habits }).collect()
            });
        }
        all
    }

    /// Returns sets of features, with words for what of it matters at a site.
    fn features(&self, site: &SiteGroup) -> Vec<(KernelFeatures, String)> {
        /// With more of them at one site, each is tried alone.
        const MOST: usize = 5;
        let mut numbers: Vec<u16> = Vec::new();
        for table in &site.tables {
            match table.kind {
                TableKind::Alternatives => {
                    numbers.extend(table.records.iter().map(|record| record.number & 0x7fff));
                }
                TableKind::Retpolines => numbers.extend([
                    feature::RETPOLINE,
                    feature::RETPOLINE_LFENCE,
                    feature::CALL_DEPTH,
                ]),
                TableKind::Returns => numbers.push(feature::RETHUNK),
                TableKind::StaticCalls => {
                    numbers.extend([feature::RETHUNK, feature::CALL_DEPTH]);
                }
                TableKind::Calls => numbers.push(feature::CALL_DEPTH),
                _ => {}
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        let sets: Vec<Vec<u16>> = if numbers.len() <= MOST {
            let subsets = 0..1_u32 << numbers.len();
            let of = |set: u32| {
                let chosen = numbers.iter().enumerate();
                chosen.filter(|(at, _)| set >> at & 1 == 1).map(|(_, &number)| number).collect()
            };
            subsets.map(of).collect()
        } else {
            let single = numbers.iter().map(|&number| vec![number]);
            [vec![], numbers.clone()].into_iter().chain(single).collect()
        };
        let with = |set: Vec<u16>| {
            let words: Vec<String> = numbers
                .iter()
                .map(|number| {
                    let not = if set.contains(number) { "" } else { "!" };
                    format!("{not}{}", self.kernel.feature_names.words_for(*number))
                })
                .collect();
            let known = numbers.iter().map(|number| (*number, set.contains(number)));
            (KernelFeatures::of(known), words.join(" "))
        };
        sets.into_iter().map(with).collect()
    }

    /// Returns the ways in which indirect calls are checked, each with every seed of the hashes that
    /// the bytes can come from.
    fn checks_of_calls(&self, site: &SiteGroup, seen: &[Option<u8>]) -> Vec<Override> {
        const MODES: [(u8, &str); 3] = [(1, "calls are not checked"), (2, "kCFI"), (3, "FineIBT")];
        let names = &self.kernel.names;
        let (Some(mode), Some(seed)) = (names.address("cfi_mode"), names.address("cfi_seed"))
        else {
            return vec![];
        };
        // The hash that the compiler has put there.
        let hash = site.tables.iter().find_map(|table| {
            let record = table.records.first()?;
            match (table.kind, self.kernel.code(site.start, 6)) {
                (TableKind::Cfi, _) => match self.kernel.code(record.site, 5) {
                    &[0xb8, a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
                    _ => None,
                },
                (TableKind::Retpolines, &[0x41, 0xba, a, b, c, d]) => {
                    Some(u32::from_le_bytes([a, b, c, d]).wrapping_neg())
                }
                _ => None,
            }
        });
        let Some(hash) = hash else { return vec![] };
        // Of a hash that the start or the end of the bytes cuts, any other byte can be taken.
        let windows = seen.windows(4).filter(|bytes| bytes.iter().any(Option::is_some));
        let numbers = windows.map(|bytes| {
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte.unwrap_or(0)).collect();
            little_endian(&bytes) as u32
        });
        let mut seeds: Vec<u32> =
            numbers.flat_map(|number| [number ^ hash, number.wrapping_neg() ^ hash]).collect();
        // Those with which the hash would be an ENDBR, so that it is mixed again.
        let endbr = u32::from_le_bytes([0xf3, 0x0f, 0x1e, 0xfa]);
        seeds.extend([0, endbr ^ hash, endbr.wrapping_neg() ^ hash]);
        seeds.sort_unstable();
        seeds.dedup();
        let all = MODES.iter().flat_map(|&(number, words)| {
            seeds.iter().map(move |&of| {
                let bytes = vec![(mode, vec![number, 0, 0, 0]), (seed, of.to_le_bytes().to_vec())];
                (bytes, words.to_owned())
            })
        });
        all.collect()
    }

    /// Returns the states of the variables that a site depends on, each with words. A site that
    /// depends on none has one state.
    fn overrides(&self, site: &SiteGroup, seen: &[Option<u8>]) -> Vec<Override> {
        let names = &self.kernel.names;
        let size = match self.kernel.image.width() {
            Width::Bits64 => 8,
            Width::Bits32 => 4,
        };
        let pointer = |function: u64| function.to_le_bytes()[..size].to_vec();
        let mut all: Vec<Override> = self.checks_of_calls(site, seen);
        for table in &site.tables {
            for record in &table.records {
                let Ok(at) = usize::try_from(record.site - site.start) else { continue };
                let target = self.function(record.site, seen, at);
                match table.kind {
                    TableKind::JumpLabels => {
                        let key = names.place(record.key);
                        for (on, words) in [(1_u64, "on"), (0, "off")] {
                            let bytes = on.to_le_bytes()[..size].to_vec();
                            all.push((vec![(record.key, bytes)], format!("{key} {words}")));
                        }
                    }
                    TableKind::StaticCalls => {
                        let key = names.place(record.key);
                        let zero = names.address("__static_call_return0");
                        let first = self.kernel.image.pointer_at(record.key);
                        let first = first.filter(|&first| first != 0);
                        for function in target.into_iter().chain(first).chain(zero).chain([0]) {
                            let words = match function {
                                0 => format!("{key} has no function"),
                                function => format!("{key} has {}", names.place(function)),
                            };
                            all.push((vec![(record.key, pointer(function))], words));
                        }
                    }
                    TableKind::Paravirt | TableKind::Alternatives => {
                        let Some(slot) = self.kernel.slot_of(record.site) else { continue };
                        let nothing = ["nop_func", "_paravirt_nop"]
                            .iter()
                            .find_map(|name| names.address(name));
                        let first = self.kernel.image.pointer_at(slot).filter(|&first| first != 0);
                        let all_functions = target.into_iter().chain(first).chain(nothing);
                        for function in all_functions.chain([0]) {
                            let name = match function {
                                0 => "nothing".to_owned(),
                                function => names.place(function),
                            };
                            let words = format!("{} has {name}", names.place(slot));
                            all.push((vec![(slot, pointer(function))], words));
                        }
                    }
                    TableKind::Returns => {
                        let Some(variable) = names.address("x86_return_thunk") else { continue };
                        for &thunk in &self.return_thunks {
                            let words = format!("returns go through {}", names.place(thunk));
                            all.push((vec![(variable, pointer(thunk))], words));
                        }
                    }
                    _ => {}
                }
            }
        }
        if all.is_empty() {
            all.push((vec![], String::new()));
        }
        all
    }
}

/// Returns the thunks through which returns can go.
pub(in crate::inspect::linux) fn return_thunks(kernel: &LinuxKernel<'_>) -> Vec<u64> {
    /// How many are tried. Kernels have about five.
    const MOST: usize = 16;
    kernel.names.of(|name| name.ends_with("return_thunk")).take(MOST).collect()
}

/// Returns `len` bytes if all of them are known.
fn known(seen: &[Option<u8>], at: usize, len: usize) -> Option<Vec<u8>> {
    seen.get(at..at.checked_add(len)?)?.iter().copied().collect()
}

/// Returns the target of the CALL or JMP of five bytes with which code begins.
pub(super) fn branch_target(address: u64, code: &[u8]) -> Option<u64> {
    let [0xe8 | 0xe9, distance @ ..] = code.first_chunk::<5>()? else { return None };
    let distance = i64::from(i32::from_le_bytes(*distance));
    Some(address.wrapping_add(5).wrapping_add_signed(distance))
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
