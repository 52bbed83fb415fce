//! What comparing an oops with a kernel's file says.

use super::forms::SiteForm;
use super::place::Slide;
use crate::inspect::explain::Verdict;

/// An oops of a log, compared with a kernel's file.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExplainedOops {
    /// The line of the log with the bytes, from 1.
    pub line: usize,
    /// Where it was, as the log says.
    pub place: String,
    /// The comparison, or why there is none.
    pub outcome: Result<ComparedOops, String>,
}

/// The comparison of an oops with a kernel's file.
#[derive(Debug)]
#[non_exhaustive]
pub struct ComparedOops {
    /// The address in the file of the instruction that failed.
    pub address_in_file: u64,
    /// How far the kernel was moved when it was loaded; `None` if that is not known.
    pub slide: Option<Slide>,
    /// The number of bytes in the log, and of those that could be read.
    pub bytes: (usize, usize),
    /// What differs from the file.
    pub differences: Vec<OopsDifference>,
    /// The code, instruction by instruction.
    pub lines: Vec<CodeLine>,
    /// Whether so much differs that the file is probably another kernel's.
    pub is_other_file: bool,
}

impl ComparedOops {
    /// Returns what is added to an address of the file to have the one in the running kernel, as far
    /// as that is known.
    #[must_use]
    pub fn distance(&self) -> u64 {
        self.slide.map_or(0, |slide| slide.distance)
    }
}

/// All oopses of a log, compared with a kernel's file.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExplainedLog {
    /// The oopses, in the order of the log, each once.
    pub oopses: Vec<ExplainedOops>,
    /// The release of the kernel that wrote the log, if it says it.
    pub release: Option<String>,
    /// Oopses without bytes that can be used.
    pub unusable: usize,
}

impl ExplainedLog {
    /// Returns how many differences have a verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        let compared = self.oopses.iter().filter_map(|oops| oops.outcome.as_ref().ok());
        let differences = compared.flat_map(|oops| &oops.differences);
        differences.filter(|difference| difference.verdict == verdict).count()
    }
}

/// Bytes of an oops that differ from the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OopsDifference {
    /// The address in the file.
    pub address_in_file: u64,
    /// The function, with the distance from its start.
    pub function: String,
    /// The kinds of records of the site; without a site `moved-address`, `probe` or `none`.
    pub cause: String,
    /// What the records depend on.
    pub depends: String,
    /// The bytes of the file, moved to where the kernel ran.
    pub file: Vec<u8>,
    /// The bytes in the log. `None` for one that could not be read.
    pub seen: Vec<Option<u8>>,
    /// The verdict.
    pub verdict: Verdict,
    /// What the verdict rests on, in words.
    pub words: String,
    /// All forms that the site can have.
    pub forms: Vec<SiteForm>,
}

/// The side that a line of the listing is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineSign {
    /// File and log have the same.
    Same,
    /// The file has it.
    File,
    /// The log has it.
    Log,
}

/// An instruction in the listing of an oops.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CodeLine {
    /// The side that has it.
    pub sign: LineSign,
    /// The address in the file.
    pub address_in_file: u64,
    /// The bytes. `None` for one that could not be read.
    pub bytes: Vec<Option<u8>>,
    /// The instruction; empty where bytes are missing.
    pub instruction: String,
    /// Whether the oops was at this instruction.
    pub is_failing: bool,
    /// Number of the difference that this line shows.
    pub difference: Option<usize>,
}
