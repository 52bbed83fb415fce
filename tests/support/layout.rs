//! The checks of patchlets in an object and in a file linked from it. Each failure is one sentence
//! that names the patchlet.

use std::path::Path;

use object::elf::{SHF_ALLOC, SHF_EXECINSTR, SHF_GNU_RETAIN, SHF_WRITE};

use super::elf::{self, Image, Label, Side, label_of, name_and_side};
use super::meaning::{check_decoded, check_encoded, hex};
use super::table::{Expected, Width, native};

/// A patchlet that was found: its labels and the bytes between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub start: u64,
    pub end: u64,
    pub bytes: Vec<u8>,
}

/// Inspects a linked file and returns all of its patchlets, sorted by address. The native set of
/// the width must be among them.
pub fn inspect_linked(path: &Path, width: Width) -> Vec<Found> {
    let image = elf::read(path);
    assert!(!image.relocatable, "{} is an object", path.display());
    assert_eq!(image.width, width, "{}", path.display());
    check(&image).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

/// Checks all properties of an object or a linked file.
pub fn check(image: &Image) -> Result<Vec<Found>, String> {
    flags(image)?;
    let found = ranges(image)?;
    contiguous(&found)?;
    native_set(image.width, &found)?;
    if let Some(at) = image.relocations.first() {
        return Err(format!("`{}` has a relocation at {at:#x}", owner(&found, *at)));
    }
    if image.relocatable {
        object(image, &found)?
    } else {
        segments(image, &found)?
    }
    Ok(found)
}

fn flags(image: &Image) -> Result<(), String> {
    let section = &image.section;
    if section.flags & (SHF_WRITE.0 | SHF_ALLOC.0 | SHF_EXECINSTR.0) == SHF_ALLOC.0 {
        return Ok(());
    }
    Err(format!(
        "the flags {:#x} of {} are not those of read-only data",
        section.flags, section.name
    ))
}

/// Pairs the labels, in the order of the starts.
fn ranges(image: &Image) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for label in &image.labels {
        if label.section != image.section.name {
            return Err(format!("`{}` is in {}", label.name, label.section));
        }
        let Some((name, side)) = name_and_side(&label.name) else {
            return Err(format!("`{}` is no label of a patchlet", label.name));
        };
        let start = one(&image.labels, &label_of(name, Side::Start))?;
        let end = one(&image.labels, &label_of(name, Side::End))?;
        if side == Side::End {
            continue;
        }
        if start.address >= end.address {
            return Err(format!(
                "`{name}` starts at {:#x} and ends at {:#x}",
                start.address, end.address
            ));
        }
        if start.size != end.address - start.address {
            return Err(format!("the size of `{name}` is said to be {}", start.size));
        }
        found.push(Found {
            name: name.to_owned(),
            start: start.address,
            end: end.address,
            bytes: bytes(image, start.address, end.address)
                .ok_or_else(|| format!("`{name}` ends outside {}", image.section.name))?
                .to_vec(),
        });
    }
    Ok(found)
}

fn one<'a>(labels: &'a [Label], name: &str) -> Result<&'a Label, String> {
    let mut found = labels.iter().filter(|label| label.name == name);
    match (found.next(), found.next()) {
        (Some(label), None) => Ok(label),
        (None, _) => Err(format!("there is no label `{name}`")),
        (Some(_), Some(_)) => Err(format!("there are two labels `{name}`")),
    }
}

fn bytes(image: &Image, start: u64, end: u64) -> Option<&[u8]> {
    let offset = |address: u64| usize::try_from(address.checked_sub(image.section.address)?).ok();
    image.section.bytes.get(offset(start)?..offset(end)?)
}

fn contiguous(found: &[Found]) -> Result<(), String> {
    for pair in found.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        if before.end != after.start {
            return Err(format!(
                "`{}` ends at {:#x}, but `{}` starts at {:#x}",
                before.name, before.end, after.name, after.start
            ));
        }
    }
    Ok(())
}

/// Checks that the native set is complete, in the order of its source and with the right bytes. A
/// kernel's own patchlets may stand before it and behind it.
fn native_set(width: Width, found: &[Found]) -> Result<(), String> {
    let expected = native(width);
    let first = found.iter().position(|found| found.name == expected[0].name);
    let mut rest = found[first.unwrap_or(0)..].iter();
    for row in &expected {
        let next = rest.next().ok_or_else(|| format!("`{}` is missing", row.name))?;
        if next.name != row.name {
            return Err(format!("`{}` is where `{}` belongs", next.name, row.name));
        }
        meaning(width, row, &next.bytes)?;
    }
    Ok(())
}

fn meaning(width: Width, row: &Expected, bytes: &[u8]) -> Result<(), String> {
    if bytes != row.bytes {
        return Err(format!("`{}` is {}, not {}", row.name, hex(bytes), hex(&row.bytes)));
    }
    check_encoded(width, row, bytes)?;
    check_decoded(width, row, bytes)
}

fn owner(found: &[Found], address: u64) -> &str {
    let owner = found.iter().find(|found| (found.start..found.end).contains(&address));
    owner.map_or("?", |found| &found.name)
}

/// Checks an object: labels are visible to other objects, and the section contains only patchlets.
fn object(image: &Image, found: &[Found]) -> Result<(), String> {
    if let Some(label) = image.labels.iter().find(|label| !label.global || !label.hidden) {
        return Err(format!("`{}` is not global and hidden", label.name));
    }
    let section = &image.section;
    if section.name != ".rodata.patchlets" || section.flags & SHF_GNU_RETAIN.0 == 0 {
        return Err(format!("the section is {} with flags {:#x}", section.name, section.flags));
    }
    let covered: usize = found.iter().map(|found| found.bytes.len()).sum();
    if covered != section.bytes.len() {
        return Err(format!(
            "{covered} of the section's {} bytes are in patchlets",
            section.bytes.len()
        ));
    }
    Ok(())
}

/// Checks a linked file: the section is not in executable memory.
fn segments(image: &Image, found: &[Found]) -> Result<(), String> {
    if image.executable.is_empty() {
        return Err("there is no executable segment: this is not a program".into());
    }
    for segment in &image.executable {
        for Found { name, start, end, .. } in found {
            if *start < segment.end && segment.start < *end {
                return Err(format!(
                    "`{name}` at {start:#x} is in an executable segment, {segment:#x?}"
                ));
            }
        }
    }
    Ok(())
}
