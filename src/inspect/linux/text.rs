//! The text as it should be: a copy of the file's executable sections, into which each rule writes
//! what the kernel writes.

use super::tables::TableKind;
use crate::inspect::elf::{Image, slice};

/// The reason why bytes differ from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A record of a table; with what it depends on, as an address or a number.
    Record(TableKind, Depends),
    /// The kernel was moved: an address in an instruction.
    Moved,
    /// A breakpoint of a kprobe.
    Kprobe,
    /// Code of the tracer that calls the function which traces, which this variable names.
    Tracer(u64),
    /// Memory that was given back after boot.
    Nothing,
}

/// The state on which the bytes of a site depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depends {
    /// A feature of the CPU, and whether it must be absent.
    Feature(u16, bool),
    /// A variable at this address.
    Variable(u64),
    /// How many CPUs there are.
    Cpus,
    /// How the kernel mitigates faults of the CPU.
    Mitigation,
    /// Nothing: it is always so.
    Boot,
    /// Structures that are made at run time.
    RunTime,
}

/// A range of text that a rule answers for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PatchedSite {
    pub address: u64,
    pub len: u64,
    pub cause: Cause,
    /// Whether the state that decides was read, so that what is equal is proven.
    pub decided: bool,
}

/// An executable section.
#[derive(Clone, Debug)]
pub(crate) struct Area<'d> {
    pub name: &'d str,
    pub address: u64,
    /// The bytes in the file.
    pub file: &'d [u8],
    /// The bytes that should be in memory.
    pub expected: Vec<u8>,
}

/// Returns whether a section of this name stays in memory after boot. What Linux gives back has the
/// other names.
pub(crate) fn is_kept(name: &str) -> bool {
    ![".init.", ".exit.", ".altinstr_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The executable sections of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct Text<'d> {
    pub areas: Vec<Area<'d>>,
    /// What rules have answered for, in their order.
    pub sites: Vec<PatchedSite>,
}

impl<'d> Text<'d> {
    /// Takes the text of a file.
    pub(crate) fn new(image: &Image<'d>) -> Self {
        let executable = image.sections().iter();
        let executable =
            executable.filter(|section| section.is_executable() && !section.data.is_empty());
        let mut areas: Vec<Area<'d>> = executable
            .map(|section| Area {
                name: section.name,
                address: section.address,
                file: section.data,
                expected: section.data.to_vec(),
            })
            .collect();
        areas.sort_by_key(|area| area.address);
        Self { areas, sites: vec![] }
    }

    fn area(&self, address: u64) -> Option<(usize, usize)> {
        let behind = self.areas.partition_point(|area| area.address <= address);
        let at = behind.checked_sub(1)?;
        Some((at, usize::try_from(address - self.areas.get(at)?.address).ok()?))
    }

    /// Returns whether an address is in a section that stays in memory after boot.
    pub(crate) fn is_kept(&self, address: u64) -> bool {
        let area = self.area(address).and_then(|(at, _)| self.areas.get(at));
        area.is_some_and(|area| is_kept(area.name))
    }

    /// Returns `len` bytes as they should be now.
    pub(crate) fn expected(&self, address: u64, len: usize) -> Option<&[u8]> {
        let (at, offset) = self.area(address)?;
        self.areas.get(at)?.expected.get(offset..offset.checked_add(len)?)
    }

    /// Returns the bytes from an address to the end of its section, `most` at most.
    pub(crate) fn onwards(&self, address: u64, most: usize) -> &[u8] {
        let rest = || {
            let (at, offset) = self.area(address)?;
            self.areas.get(at)?.expected.get(offset..)
        };
        let rest = rest().unwrap_or_default();
        rest.get(..most).unwrap_or(rest)
    }

    /// Returns `len` bytes as the file has them.
    pub(crate) fn file(&self, address: u64, len: u64) -> Option<&'d [u8]> {
        let (at, offset) = self.area(address)?;
        slice(self.areas.get(at)?.file, offset as u64, len)
    }

    /// Writes bytes that the kernel writes. What is outside of text is left out.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        if let Some((at, offset)) = self.area(address)
            && let Some(area) = self.areas.get_mut(at)
            && let Some(to) = area.expected.get_mut(offset..offset + bytes.len())
        {
            to.copy_from_slice(bytes);
        }
    }

    /// Answers for a range of text.
    pub(crate) fn answer(&mut self, address: u64, len: u64, cause: Cause) {
        self.sites.push(PatchedSite { address, len, cause, decided: true });
    }

    /// Answers for a range of text whose state was not read, but taken from what most of its kind
    /// are like.
    pub(crate) fn answer_undecided(&mut self, address: u64, len: u64, cause: Cause) {
        self.sites.push(PatchedSite { address, len, cause, decided: false });
    }
}
