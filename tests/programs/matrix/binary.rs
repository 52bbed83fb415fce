//! A linked program without symbols, as plain data: what the index, the records and the sections
//! say. A stripped program has nothing else.

use std::ops::Range;

use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, elf};

/// An index record, followed to what it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patchlet {
    pub name: String,
    pub address: u64,
    pub native: u64,
    pub bytes: Vec<u8>,
    /// As many bytes of its native function.
    pub native_bytes: Vec<u8>,
}

/// A record of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub address: u64,
    pub slot: u64,
    pub op: u16,
    pub capacity: u8,
    pub kind: u8,
}

/// What of a section matters.
#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub address: u64,
    /// Where it is in the file.
    #[allow(dead_code, reason = "for tests that break files")]
    pub offset: usize,
    pub flags: u64,
    pub bytes: Vec<u8>,
}

impl Section {
    fn range(&self) -> Range<u64> {
        self.address..self.address + self.bytes.len() as u64
    }

    pub fn is_executable(&self) -> bool {
        self.flags & elf::SHF_EXECINSTR.0 != 0
    }

    pub fn is_read_only_data(&self) -> bool {
        self.flags & elf::SHF_WRITE.0 == 0 && !self.is_executable()
    }
}

/// The whole program.
#[derive(Clone, Debug)]
pub struct Binary {
    pub wide: bool,
    pub entry: u64,
    /// The loaded ones.
    pub sections: Vec<Section>,
    pub patchlets: Vec<Patchlet>,
    pub sites: Vec<Site>,
    /// Addresses that a loader writes to.
    pub relocations: Vec<u64>,
    /// The slots of the ops tables, by symbol; empty if stripped.
    pub tables: Vec<(String, u64)>,
    pub stripped: bool,
}

/// The symbols of the slots of the three tables of the program.
pub const TABLES: [&str; 3] = ["patchlet_pv_ops", "matrix_places", "matrix_main_slots"];

impl Binary {
    /// Reads a program.
    ///
    /// # Errors
    /// What cannot be read, in a sentence.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let file = object::File::parse(file).map_err(|error| error.to_string())?;
        let mut sections = Vec::new();
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            if sh_flags.contains(elf::SHF_ALLOC) {
                sections.push(Section {
                    name: section.name().unwrap_or_default().to_owned(),
                    address: section.address(),
                    offset: section
                        .file_range()
                        .map_or(Ok(0), |(offset, _)| usize::try_from(offset))
                        .map_err(|error| error.to_string())?,
                    flags: sh_flags.0,
                    bytes: section.data().map_err(|error| error.to_string())?.to_vec(),
                });
            }
        }
        let mut binary = Self {
            wide: file.is_64(),
            entry: file.entry(),
            sections,
            patchlets: Vec::new(),
            sites: Vec::new(),
            relocations: file
                .dynamic_relocations()
                .map(|relocations| relocations.map(|(at, _)| at).collect())
                .unwrap_or_default(),
            tables: file
                .symbols()
                .filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())))
                .filter(|(name, _)| TABLES.contains(&name.as_str()))
                .collect(),
            stripped: file.symbols().next().is_none(),
        };
        binary.patchlets = binary.index()?;
        binary.sites = binary.records()?;
        Ok(binary)
    }

    /// Returns the section of this name.
    pub fn section(&self, name: &str) -> Result<&Section, String> {
        let mut found = self.sections.iter().filter(|section| section.name == name);
        match (found.next(), found.next()) {
            (Some(section), None) => Ok(section),
            (None, _) => Err(format!("there is no section {name}")),
            _ => Err(format!("there are several sections {name}")),
        }
    }

    /// Returns the section that has an address.
    pub fn section_at(&self, address: u64) -> Option<&Section> {
        self.sections.iter().find(|section| section.range().contains(&address))
    }

    /// Returns `len` bytes from an address on.
    pub fn bytes_at(&self, address: u64, len: usize) -> Option<&[u8]> {
        let section = self.section_at(address)?;
        let at = usize::try_from(address - section.address).ok()?;
        section.bytes.get(at..at.checked_add(len)?)
    }

    /// Returns the size of a slot, in bytes.
    pub fn slot_size(&self) -> u64 {
        if self.wide { 8 } else { 4 }
    }

    /// Returns the address that a self-relative field of a section stands for.
    fn relative(&self, section: &Section, at: usize) -> Option<u64> {
        let place = section.address + at as u64;
        let address = place.wrapping_add_signed(i64::from(i32::from_le_bytes(field(section, at)?)));
        Some(if self.wide { address } else { address & 0xffff_ffff })
    }

    fn index(&self) -> Result<Vec<Patchlet>, String> {
        let section = self.section("patchlet_index")?;
        let mut patchlets = Vec::new();
        let mut at = 0;
        while at < section.bytes.len() {
            let (patchlet, next) = self
                .index_record(section, at)
                .ok_or_else(|| format!("the index record at {at:#x} points nowhere"))?;
            patchlets.push(patchlet);
            at = next;
        }
        Ok(patchlets)
    }

    fn index_record(&self, section: &Section, at: usize) -> Option<(Patchlet, usize)> {
        let address = self.relative(section, at)?;
        let native = self.relative(section, at + 4)?;
        let len = usize::from(u16::from_le_bytes(field(section, at + 8)?));
        let name_len = usize::from(u16::from_le_bytes(field(section, at + 10)?));
        let name = section.bytes.get(at + 12..at + 12 + name_len)?;
        let patchlet = Patchlet {
            name: String::from_utf8(name.to_vec()).ok()?,
            address,
            native,
            bytes: self.bytes_at(address, len)?.to_vec(),
            native_bytes: self.bytes_at(native, len)?.to_vec(),
        };
        Some((patchlet, (at + 12 + name_len).next_multiple_of(4)))
    }

    fn records(&self) -> Result<Vec<Site>, String> {
        let section = self.section("patchlet_sites")?;
        if !section.bytes.len().is_multiple_of(12) {
            return Err(format!("{} bytes of records are no whole number", section.bytes.len()));
        }
        let record = |at| {
            Some(Site {
                address: self.relative(section, at)?,
                slot: self.relative(section, at + 4)?,
                op: u16::from_le_bytes(field(section, at + 8)?),
                capacity: *section.bytes.get(at + 10)?,
                kind: *section.bytes.get(at + 11)?,
            })
        };
        let records: Option<Vec<_>> = (0..section.bytes.len()).step_by(12).map(record).collect();
        records.ok_or_else(|| "a record is not whole".to_owned())
    }
}

fn field<const N: usize>(section: &Section, at: usize) -> Option<[u8; N]> {
    section.bytes.get(at..at + N)?.try_into().ok()
}
