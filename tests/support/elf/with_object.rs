//! `Image` by the crate `object`.

use object::{
    Object, ObjectKind, ObjectSection, ObjectSegment, ObjectSymbol, SectionFlags, SegmentFlags,
    SymbolFlags, elf,
};

use super::{Image, Label, Section, Width, name_and_side};

pub fn read(bytes: &[u8]) -> Result<Image, String> {
    let file = object::File::parse(bytes).map_err(|error| error.to_string())?;
    let width = match file.architecture() {
        object::Architecture::X86_64 => Width::Bits64,
        object::Architecture::I386 => Width::Bits32,
        other => return Err(format!("not for x86 but {other:?}")),
    };

    let mut labels = Vec::new();
    for symbol in file.symbols() {
        let name = symbol.name().unwrap_or_default();
        if name_and_side(name).is_some() {
            labels.push(label(&file, &symbol, name)?);
        }
    }
    labels.sort();
    let first = labels.first().ok_or("no patchlet label")?;
    let section = file.section_by_name(&first.section).ok_or("the label's section is gone")?;
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
        return Err("no ELF section".into());
    };

    let range = section.address()..section.address() + section.size();
    let mut relocations: Vec<u64> = section.relocations().map(|(at, _)| at).collect();
    if let Some(dynamic) = file.dynamic_relocations() {
        relocations.extend(dynamic.map(|(at, _)| at).filter(|at| range.contains(at)));
    }
    relocations.sort_unstable();

    Ok(Image {
        width,
        relocatable: file.kind() == ObjectKind::Relocatable,
        section: Section {
            name: first.section.clone(),
            address: section.address(),
            flags: sh_flags.0,
            bytes: section.data().map_err(|error| error.to_string())?.to_vec(),
        },
        labels,
        relocations,
        executable: file
            .segments()
            .filter(|segment| {
                matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. }
                    if p_flags.contains(elf::PF_X))
            })
            .map(|segment| segment.address()..segment.address() + segment.size())
            .collect(),
    })
}

fn label<'data>(
    file: &object::File<'data>,
    symbol: &impl ObjectSymbol<'data>,
    name: &str,
) -> Result<Label, String> {
    let section = symbol.section_index().ok_or_else(|| format!("`{name}` is not defined"))?;
    let section = file.section_by_index(section).map_err(|error| error.to_string())?;
    let SymbolFlags::Elf { st_info, st_other } = symbol.flags() else {
        return Err(format!("`{name}` is no ELF symbol"));
    };
    Ok(Label {
        address: symbol.address(),
        name: name.to_owned(),
        size: symbol.size(),
        section: section.name().map_err(|error| error.to_string())?.to_owned(),
        hidden: st_other.visibility() == elf::STV_HIDDEN,
        global: st_info.st_bind() == elf::STB_GLOBAL,
    })
}
