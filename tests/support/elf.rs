//! An ELF file, relocatable or linked, as far as patchlets are concerned: plain
//! data, read by two libraries that know nothing of each other and must agree.

mod with_goblin;
mod with_object;

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::table::Width;

/// Everything the inspection looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: Width,
    /// An object, not linked yet: addresses are offsets in the section.
    pub relocatable: bool,
    /// The labels `patchlet_<name>_start` and `patchlet_<name>_end`, by address.
    pub labels: Vec<Label>,
    /// The section that the first label lies in.
    pub section: Section,
    /// Where in that section a linker or loader would still write.
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

/// Reads the file twice.
pub fn read(path: &Path) -> Image {
    let file = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let image = with_object::read(&file);
    assert_eq!(image, with_goblin::read(&file), "object and goblin disagree on {}", path.display());
    image.unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

/// Which end of a patchlet a label marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Start,
    End,
}

/// Takes a label apart, `patchlet_<name>_start` or `…_end`: the patchlet's name, and the end.
pub fn name_and_side(label: &str) -> Option<(&str, Side)> {
    let rest = label.strip_prefix("patchlet_")?;
    let start = rest.strip_suffix("_start").map(|name| (name, Side::Start));
    start.or_else(|| rest.strip_suffix("_end").map(|name| (name, Side::End)))
}

/// The label at an end of a patchlet.
pub fn label_of(name: &str, side: Side) -> String {
    match side {
        Side::Start => format!("patchlet_{name}_start"),
        Side::End => format!("patchlet_{name}_end"),
    }
}
