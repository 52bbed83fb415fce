//! Reads the parts of an ELF file that concern patchlets. Two independent libraries read them and
//! must agree.

mod with_goblin;
mod with_object;

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::table::Width;

/// The parts of an ELF file that the inspection looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: Width,
    /// Whether the file is an object, in which addresses are offsets in a section.
    pub relocatable: bool,
    /// The labels `patchlet_<name>_start` and `patchlet_<name>_end`, by address.
    pub labels: Vec<Label>,
    /// The section that the first label lies in.
    pub section: Section,
    /// The addresses in that section to which a linker or loader would write.
    pub relocations: Vec<u64>,
    /// The addresses that are executable once loaded.
    pub executable: Vec<Range<u64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    pub address: u64,
    pub name: String,
    pub size: u64,
    pub section: String,
    pub hidden: bool,
    pub global: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub address: u64,
    /// `sh_flags`, as the file has them.
    pub flags: u64,
    pub bytes: Vec<u8>,
}

/// Reads the file by both libraries.
pub fn read(path: &Path) -> Image {
    let file = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let image = with_object::read(&file);
    assert_eq!(image, with_goblin::read(&file), "object and goblin disagree on {}", path.display());
    image.unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

/// The end of a patchlet that a label marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Start,
    End,
}

/// Returns the patchlet's name and the end that a label `patchlet_<name>_start` or `…_end` marks.
pub fn name_and_side(label: &str) -> Option<(&str, Side)> {
    let rest = label.strip_prefix("patchlet_")?;
    let start = rest.strip_suffix("_start").map(|name| (name, Side::Start));
    start.or_else(|| rest.strip_suffix("_end").map(|name| (name, Side::End)))
}

/// Returns the label at an end of a patchlet.
pub fn label_of(name: &str, side: Side) -> String {
    match side {
        Side::Start => format!("patchlet_{name}_start"),
        Side::End => format!("patchlet_{name}_end"),
    }
}
