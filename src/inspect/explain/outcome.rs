//! What comparing a kernel's text in a dump with its file says, whichever kernel it is.

use std::collections::BTreeMap;

use super::locate::{Located, SlideEvidence};

/// The certainty about bytes that differ from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Verdict {
    /// They were computed from the file and the state in the dump, and are equal.
    Proven,
    /// The record can have this state; what decides is not read from the dump.
    Allowed,
    /// No record is for the bytes, or the state in the dump asks for others.
    Unexplained,
}

impl Verdict {
    /// Returns the word by which the tool prints the verdict.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Allowed => "allowed",
            Self::Unexplained => "unexplained",
        }
    }
}

/// A range of text that differs from the file, or that should.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explained {
    /// Address in the running kernel.
    pub address: u64,
    /// The same as the file has it.
    pub address_in_file: u64,
    /// The function, with the distance from its start.
    pub function: String,
    /// The kind of cause.
    pub cause: &'static str,
    /// What the bytes depend on.
    pub depends: String,
    /// The bytes in the file.
    pub file: Vec<u8>,
    /// The bytes that should be there.
    pub expected: Vec<u8>,
    /// The bytes in the dump.
    pub seen: Vec<u8>,
    /// The verdict.
    pub verdict: Verdict,
}

impl Explained {
    /// Returns how many bytes differ from the file, or from what they should be.
    fn differing(&self) -> usize {
        let bytes = self.seen.iter().zip(&self.file).zip(&self.expected);
        bytes.filter(|((seen, file), expected)| seen != file || seen != expected).count()
    }
}

/// The number of ranges and of bytes that have a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Ranges: sites, or bytes in a row.
    pub ranges: usize,
    /// Bytes in them that differ from the file, or from what they should be.
    pub bytes: usize,
}

/// The comparison of a running kernel's text with what it should be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The distance from an address in the file to the one in the running kernel.
    pub slide: u64,
    /// The distance from an address in the file to the physical one, in a dump of physical memory.
    pub physical_distance: Option<u64>,
    /// How the slide was found.
    pub slide_evidence: SlideEvidence,
    /// How many pieces of text were where they should be, of how many.
    pub pieces: (usize, usize),
    /// Whether the page tables said which memory can be executed.
    pub has_page_tables: bool,
    /// What was read of the kernel's state, and what was not found, as sentences.
    pub notes: Vec<String>,
    /// Bytes of text that were compared.
    pub compared: u64,
    /// Bytes of executable sections that no CPU can execute any more, so that they were not.
    pub not_executable: u64,
    /// Bytes of executable sections that the dump does not have.
    pub missing: u64,
    /// The counts of each cause and verdict.
    pub counts: BTreeMap<(&'static str, Verdict), Count>,
    /// What is unexplained and allowed, and, if all was asked for, what is proven.
    pub list: Vec<Explained>,
}

impl Explanation {
    /// Makes the explanation of a kernel that was found, before anything was compared.
    pub(crate) fn new(located: &Located<'_, '_>, notes: Vec<String>) -> Self {
        Self {
            slide: located.slide,
            physical_distance: located.physical_distance(),
            slide_evidence: located.evidence,
            pieces: located.pieces,
            has_page_tables: located.pages.is_some(),
            notes,
            compared: 0,
            not_executable: 0,
            missing: 0,
            counts: BTreeMap::new(),
            list: vec![],
        }
    }

    /// Counts a range, and puts it on the list unless it is proven and not all was asked for.
    pub(crate) fn add(&mut self, explained: Explained, all: bool) {
        let count = self.counts.entry((explained.cause, explained.verdict)).or_default();
        count.ranges += 1;
        count.bytes += explained.differing();
        if all || explained.verdict != Verdict::Proven {
            self.list.push(explained);
        }
    }

    /// Returns the count of a verdict, over all causes.
    #[must_use]
    pub fn total(&self, verdict: Verdict) -> Count {
        let mut total = Count::default();
        for (_, count) in self.counts.iter().filter(|((_, of), _)| *of == verdict) {
            total.ranges += count.ranges;
            total.bytes += count.bytes;
        }
        total
    }
}
