//! Compares the text of a running kernel with what it should be, and puts down every byte that
//! differs from the file to its cause.

use std::ops::RangeInclusive;

use super::kernel::LinuxKernel;
use super::nops::FAMILIES;
use super::rules::{Filling, Habits, Rules, SEALED_ENDBR};
use super::state::{KernelFeatures, State};
use super::tables::TableKind;
use super::text::{Area, Cause, Depends, PatchedSite, Text};
use super::unpack::bounds;
use crate::insn::Width;
use crate::inspect::elf::little_endian;
use crate::inspect::error::FileError;
use crate::inspect::explain::{Explained, Explanation, Located, RawAddress, Verdict, locate, read};

/// Size of a page.
const PAGE: u64 = 0x1000;

/// Explains the text of a kernel in a dump, given as bytes. `raw` is the address of the first byte
/// of a dump without a header. `all` lists proven ranges, too.
///
/// # Errors
/// Returns an error if the dump cannot be read, if the kernel is not in it, or if nothing of its
/// text can be compared.
pub fn explain(
    kernel: &LinuxKernel<'_>,
    dump: &[u8],
    raw: Option<RawAddress>,
    all: bool,
) -> Result<Explanation, FileError> {
    let memory = read(dump, raw)?;
    let alignment = match kernel.image.width() {
        Width::Bits64 => 0x20_0000,
        Width::Bits32 => 0x2000,
    };
    let located = locate(&kernel.image, &memory, alignment)?;
    let state = State::new(&kernel.image, &kernel.names, &located);
    let mut moved = Text::new(&kernel.image);
    move_text(kernel, located.slide, &mut moved);
    let text = expected(kernel, &state, &located, &moved);
    let explanation = Comparison::new(kernel, &located, &state, &text, all).run();
    if explanation.compared == 0 {
        return Err(FileError::new("the dump has nothing of its text that can be executed"));
    }
    Ok(explanation)
}

/// Adds the slide to the addresses in text.
fn move_text(kernel: &LinuxKernel<'_>, slide: u64, text: &mut Text<'_>) {
    let Some(relocated) = &kernel.relocated else { return };
    for (places, slide) in
        [(&relocated.added, slide), (&relocated.subtracted, slide.wrapping_neg())]
    {
        for &place in places {
            if let Some(bytes) = text.expected(place, 4) {
                let number = (little_endian(bytes) as u32).wrapping_add(slide as u32);
                text.write(place, &number.to_le_bytes());
            }
        }
    }
    for &place in &relocated.added_long {
        if let Some(bytes) = text.expected(place, 8) {
            let number = little_endian(bytes).wrapping_add(slide);
            text.write(place, &number.to_le_bytes());
        }
    }
}

/// Returns the text that the kernel should have. Its habits are those with which most sites are as
/// they are in the dump: first the usual ones of kernels with such records, then each habit in
/// turn is tried in every other form.
fn expected<'d>(
    kernel: &LinuxKernel<'d>,
    state: &State<'_, '_>,
    located: &Located<'_, '_>,
    moved: &Text<'d>,
) -> Text<'d> {
    let alternatives = kernel.tables.iter().find(|table| table.kind == TableKind::Alternatives);
    let filling = match alternatives.map_or(0, |table| table.stride) {
        13 => Filling::Padding,
        12 => Filling::Runs,
        _ => Filling::Instructions,
    };
    let width = kernel.image.width();
    let usual = Habits {
        filling,
        nops: if width == Width::Bits64 { &FAMILIES[0] } else { &FAMILIES[1] },
        native_sequences: filling == Filling::Padding,
        int3_behind_jump: true,
        sealed_endbr: SEALED_ENDBR[0],
    };
    let with = |habits: Habits| {
        let mut text = moved.clone();
        let (image, names) = (&kernel.image, &kernel.names);
        Rules { image, names, tables: &kernel.tables, state, habits }.apply(&mut text);
        let wrong = text.sites.iter().filter(|site| !is_as_expected(&text, located, site)).count();
        (wrong, habits, text)
    };
    let mut best = with(usual);
    for step in 0..5 {
        if best.0 == 0 {
            break;
        }
        let now = best.1;
        let others: Vec<Habits> = match step {
            0 => [Filling::Padding, Filling::Runs, Filling::Instructions]
                .map(|filling| Habits { filling, ..now })
                .to_vec(),
            1 => FAMILIES
                .iter()
                .filter(|family| family.width.is_none_or(|of| of == width))
                .map(|nops| Habits { nops, ..now })
                .collect(),
            2 => vec![Habits { native_sequences: !now.native_sequences, ..now }],
            3 => vec![Habits { int3_behind_jump: !now.int3_behind_jump, ..now }],
            _ => SEALED_ENDBR.iter().map(|&sealed_endbr| Habits { sealed_endbr, ..now }).collect(),
        };
        for habits in others.into_iter().filter(|&habits| habits != now) {
            let other = with(habits);
            if other.0 < best.0 {
                best = other;
            }
        }
    }
    best.2
}

/// Returns whether a site is in the dump as it should be, or is not in the dump.
fn is_as_expected(text: &Text<'_>, located: &Located<'_, '_>, site: &PatchedSite) -> bool {
    let len = usize::try_from(site.len).unwrap_or(0);
    match (located.bytes(site.address, len), text.expected(site.address, len)) {
        (Some(seen), Some(expected)) => seen == expected,
        _ => true,
    }
}

/// Returns what was read of the CPU's features, as a sentence.
fn words_of_features(state: &State<'_, '_>) -> String {
    match state.features.as_ref().map(KernelFeatures::words) {
        Some(words) => format!("{words} words of CPU features read from boot_cpu_data"),
        None => {
            "the features of the CPU were not found, so alternatives cannot be proven".to_owned()
        }
    }
}

/// Sites that overlap, as one range.
#[derive(Clone, Debug)]
struct Group {
    start: u64,
    end: u64,
    /// Numbers of the sites, in the order of the rules.
    sites: Vec<usize>,
}

/// The comparison of text with a dump.
struct Comparison<'a, 'd> {
    kernel: &'a LinuxKernel<'d>,
    located: &'a Located<'a, 'a>,
    state: &'a State<'a, 'a>,
    text: &'a Text<'d>,
    all: bool,
    /// Groups of sites, sorted by address.
    groups: Vec<Group>,
    /// The addresses of the kernel in the file, with the one behind its last byte.
    bounds: RangeInclusive<u64>,
    /// The size of the data of each CPU that is linked at address 0.
    size_of_percpu: u64,
    explanation: Explanation,
}

impl<'a, 'd> Comparison<'a, 'd> {
    fn new(
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
        let explanation = Explanation::new(located, vec![words_of_features(state)]);
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
    fn run(mut self) -> Explanation {
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
        // Without page tables: what Linux gives back after boot has these names.
        let is_kept = || {
            let freed = [".init.", ".exit.", ".altinstr_"];
            !freed.iter().any(|prefix| area.name.starts_with(prefix))
        };
        if !self.located.is_executable(start).unwrap_or_else(is_kept) {
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
        if self.is_kprobe(address) {
            self.count(Cause::Kprobe, Verdict::Allowed, address, address + 1);
            return address + 1;
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

    /// Explains a group of sites, in which the byte at an address differs.
    fn group(&mut self, group: &Group, address: u64) {
        let len = (group.end - group.start) as usize;
        let (Some(seen), Some(expected)) =
            (self.located.bytes(group.start, len), self.text.expected(group.start, len))
        else {
            return;
        };
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
        let allowed = sites.iter().find_map(|site| self.allowed(group, site));
        match allowed {
            Some(cause) => self.count(cause, Verdict::Allowed, group.start, group.end),
            None => self.count(cause, Verdict::Unexplained, group.start, group.end),
        }
    }

    /// Returns the cause if a site may be in another state than the expected one, and everything
    /// else in its group is as expected.
    fn allowed(&self, group: &Group, site: &PatchedSite) -> Option<Cause> {
        let len = (group.end - group.start) as usize;
        let seen = self.located.bytes(group.start, len)?;
        let expected = self.text.expected(group.start, len)?;
        let start = (site.address - group.start) as usize;
        let others_are_as_expected = |len: usize| {
            let mut bytes = seen.iter().zip(expected).enumerate();
            bytes.all(|(at, (seen, expected))| {
                (start..start + len).contains(&at) || seen == expected
            })
        };
        let here = seen.get(start..)?;
        if here.first() == Some(&0xcc) && others_are_as_expected(1) && self.is_kprobe(site.address)
        {
            return Some(Cause::Kprobe);
        }
        match site.cause {
            Cause::Record(TableKind::Ftrace, _) => {
                let target = branch_target(site.address, here).filter(|_| here[0] == 0xe8)?;
                (others_are_as_expected(5) && self.is_tracer(target)).then_some(site.cause)
            }
            // A call without a function was made a return before or after the kernel chose a thunk
            // for returns.
            Cause::Record(TableKind::StaticCalls, _)
                if here.starts_with(RETURN)
                    && self.is_return_thunk(site.address)
                    && others_are_as_expected(5) =>
            {
                Some(site.cause)
            }
            Cause::Record(TableKind::StaticCalls, _) if !site.decided => {
                let here = here.first_chunk::<5>()?;
                let state = match *here {
                    [0xe9, ..] => {
                        let target = branch_target(site.address, here)?;
                        self.kernel.names.at(target).next().is_some()
                    }
                    _ => here.starts_with(RETURN),
                };
                (state && others_are_as_expected(5)).then_some(site.cause)
            }
            _ => None,
        }
    }

    /// Returns whether the expected text has a jump to a thunk for returns at an address.
    fn is_return_thunk(&self, address: u64) -> bool {
        let target = || branch_target(address, self.text.expected(address, 5)?);
        target().is_some_and(|target| {
            self.kernel.names.at(target).any(|name| name.ends_with("return_thunk"))
        })
    }

    /// Returns whether an address of the file is where the tracer is called: in the kernel, or in a
    /// trampoline that it has made, which is in no section of the file and begins as the code in
    /// the kernel does, of which it is a copy.
    fn is_tracer(&self, target: u64) -> bool {
        const CALLERS: &[&str] = &["ftrace_caller", "ftrace_regs_caller"];
        /// How many bytes of a trampoline are compared: those in front of what differs in each.
        const SAME: usize = 16;
        if self.kernel.names.is_one_of(target, CALLERS) {
            return true;
        }
        let running = target.wrapping_add(self.located.slide);
        if self.kernel.image.section_at(target).is_some() || !self.located.is_executable_at(running)
        {
            return false;
        }
        let Some(there) = self.located.virtual_bytes(running, SAME) else {
            // The dump does not have it, or no page tables.
            return self.located.pages.is_none();
        };
        let callers = CALLERS.iter().filter_map(|name| self.kernel.names.address(name));
        callers
            .filter_map(|caller| self.text.expected(caller, SAME))
            .any(|expected| expected == there)
    }

    /// Returns whether a breakpoint stands at an address of the file, and the kernel's list of
    /// probes has the address.
    fn is_kprobe(&self, address: u64) -> bool {
        self.located.bytes(address, 1) == Some(&[0xcc]) && self.state.kprobes.contains(&address)
    }

    /// Returns the end of an address in an instruction that moved with the kernel and has the byte
    /// at `address` in it. Used for a file that does not say which places these are: the four
    /// bytes must be an address of the kernel in the file, and the same plus the slide in the
    /// dump.
    fn moved_address(&self, address: u64) -> Option<u64> {
        let slide = self.located.slide as u32;
        let is_of_kernel = |address: u64| self.bounds.contains(&address);
        (0..4).filter_map(|back| address.checked_sub(back)).find_map(|start| {
            let file = little_endian(self.text.expected(start, 4)?) as u32;
            let seen = little_endian(self.located.bytes(start, 4)?) as u32;
            let extended = match self.kernel.image.width() {
                Width::Bits64 => i64::from(file.cast_signed()).cast_unsigned(),
                Width::Bits32 => u64::from(file),
            };
            // A physical address is computed from the distance to the lowest address that a kernel
            // can have, of 64 bit two gigabytes before the last.
            let physical = match self.kernel.image.width() {
                Width::Bits64 => extended | 0xffff_ffff_8000_0000,
                Width::Bits32 => extended | 0xc000_0000,
            };
            // The distance from where it is linked, which is 0 in the file, is one more.
            let moves = seen == file.wrapping_add(slide)
                && (file == 0 || is_of_kernel(extended) || is_of_kernel(physical));
            // The data of each CPU is linked at 0 and does not move, so a distance to it does. Up
            // to four bytes of an immediate value can follow.
            let shrinks = seen == file.wrapping_sub(slide)
                && (4..=8).any(|behind| {
                    start.wrapping_add(behind).wrapping_add(extended) < self.size_of_percpu
                });
            (moves || shrinks).then_some(start + 4)
        })
    }

    /// Returns whether every byte of a range that is not as expected belongs to an address that
    /// moved with the kernel.
    fn differs_by_moved_addresses(&self, seen: &[u8], expected: &[u8], start: u64) -> bool {
        let mut done = start;
        self.kernel.relocated.is_none()
            && seen.iter().zip(expected).enumerate().all(|(at, (seen, expected))| {
                let address = start + at as u64;
                if address < done || seen == expected {
                    return true;
                }
                match self.moved_address(address) {
                    Some(end) => {
                        done = end;
                        true
                    }
                    None => false,
                }
            })
    }

    /// Counts a range, and puts it on the list.
    fn count(&mut self, cause: Cause, verdict: Verdict, start: u64, end: u64) {
        let len = (end - start) as usize;
        let seen = self.located.bytes(start, len).unwrap_or_default();
        let file = self.text.file(start, end - start).unwrap_or_default();
        let expected = self.text.expected(start, len).unwrap_or_default();
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
                format!("{not}feature {}*32+{}", number / 32, number % 32)
            }
            Depends::Variable(address) => match self.kernel.names.place(address) {
                name if name.is_empty() => format!("variable at {address:#x}"),
                name => name,
            },
            Depends::Cpus => "number of CPUs".to_owned(),
            Depends::Mitigation => "mitigations".to_owned(),
            Depends::Boot => String::new(),
            Depends::RunTime => "what is not in the file".to_owned(),
        }
    }
}

/// A return as it fills a site of five bytes.
const RETURN: &[u8] = &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc];

/// Returns the target of the CALL or JMP of five bytes with which code begins.
fn branch_target(address: u64, code: &[u8]) -> Option<u64> {
    let [0xe8 | 0xe9, distance @ ..] = code.first_chunk::<5>()? else { return None };
    let distance = i64::from(i32::from_le_bytes(*distance));
    Some(address.wrapping_add(5).wrapping_add_signed(distance))
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
