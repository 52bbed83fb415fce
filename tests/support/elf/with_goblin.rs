//! `Image` by the crate `goblin`.

use goblin::elf::header::{EM_386, EM_X86_64, ET_REL};
use goblin::elf::program_header::{PF_X, PT_LOAD};
use goblin::elf::sym::{STB_GLOBAL, STV_HIDDEN};
use goblin::elf::{Elf, SectionHeader};

use super::{Image, Label, Section, Width, name_and_side};

pub fn read(bytes: &[u8]) -> Result<Image, String> {
    let elf = Elf::parse(bytes).map_err(|error| error.to_string())?;
    let width = match (elf.header.e_machine, elf.is_64) {
        (EM_X86_64, true) => Width::Bits64,
        (EM_386, false) => Width::Bits32,
        (other, _) => return Err(format!("not for x86 but machine {other}")),
    };
    let section_name =
        |header: &SectionHeader| elf.shdr_strtab.get_at(header.sh_name).unwrap_or_default();

    let mut labels = Vec::new();
    let mut sections = Vec::new();
    for symbol in &elf.syms {
        let name = elf.strtab.get_at(symbol.st_name).unwrap_or_default();
        if name_and_side(name).is_none() {
            continue;
        }
        // Index 0 stands for "defined elsewhere".
        let header = elf
            .section_headers
            .get(symbol.st_shndx)
            .filter(|_| symbol.st_shndx != 0)
            .ok_or_else(|| format!("`{name}` is not defined"))?;
        sections.push((symbol.st_value, symbol.st_shndx));
        labels.push(Label {
            address: symbol.st_value,
            name: name.to_owned(),
            size: symbol.st_size,
            section: section_name(header).to_owned(),
            hidden: symbol.st_visibility() == STV_HIDDEN,
            global: symbol.st_bind() == STB_GLOBAL,
        });
    }
    labels.sort();
    let (_, index) = *sections.iter().min().ok_or("no patchlet label")?;
    let header = &elf.section_headers[index];

    let range = header.sh_addr..header.sh_addr + header.sh_size;
    // `sh_info` of a relocation section is the section it is for.
    let own = elf
        .shdr_relocs
        .iter()
        .filter(|(at, _)| elf.section_headers[*at].sh_info as usize == index)
        .flat_map(|(_, relocations)| relocations.iter());
    let dynamic = elf
        .dynrelas
        .iter()
        .chain(elf.dynrels.iter())
        .filter(|relocation| range.contains(&relocation.r_offset));
    let mut relocations: Vec<u64> = own.chain(dynamic).map(|found| found.r_offset).collect();
    relocations.sort_unstable();

    Ok(Image {
        width,
        relocatable: elf.header.e_type == ET_REL,
        labels,
        section: Section {
            name: section_name(header).to_owned(),
            address: header.sh_addr,
            flags: header.sh_flags,
            bytes: header
                .file_range()
                .and_then(|range| bytes.get(range))
                .unwrap_or_default()
                .to_vec(),
        },
        relocations,
        executable: elf
            .program_headers
            .iter()
            .filter(|segment| segment.p_type == PT_LOAD && segment.p_flags & PF_X != 0)
            .map(|segment| segment.p_vaddr..segment.p_vaddr + segment.p_memsz)
            .collect(),
    })
}
