//! The model of a linked file: its patchlets, its records, its ops tables, and the op that each
//! record belongs to.

use std::collections::HashMap;

use super::ops_tables::{OpsTables, TableImage};
use crate::insn::Nops;
use crate::inspect::elf::Image;
use crate::inspect::error::FileError;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::{
    BRANCH_SIZE, BRANCHES, BranchImage, FoundRecords, INDEX, KEY_WORD, KEYS, KeyImage, OpRecord,
    PatchletImage, SITES, SiteImage, VariantImage, find_patchlets, read_branches, read_keys,
    read_op_records, read_sites, read_variants, sites_are_of_width,
};

/// Stands for the address of the no-op function if it is not known, so that a platform can still
/// have `nop` in a slot. No function has this address.
pub(super) const SOME_NOP: u64 = 2;

/// Stands for the address of the identity function if it is not known, so that a platform can
/// still have `ident` in a slot. No function has this address.
pub(super) const SOME_IDENT: u64 = 3;

/// Stands for the address of the function that returns 0 if it is not known. No function has this
/// address.
pub(super) const SOME_ZERO: u64 = 4;

/// An op in a file. Only ops that some record belongs to are known.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpImage {
    /// Address of the op's slot.
    pub slot: u64,
    /// Index of the op in its table, according to the records.
    pub index: u16,
    /// Position of the op's table in [`Model::tables`], if the slot is in one.
    pub table: Option<usize>,
    /// Address of the native function, which the slot holds in the file. `None` if the file does
    /// not have the slot's bytes.
    pub native: Option<u64>,
    /// Position in [`Model::patchlets`] of the patchlet with this native function, if there is
    /// one.
    pub patchlet: Option<usize>,
}

/// A linked file as patching sees it.
#[derive(Debug)]
pub struct Model<'d> {
    pub(crate) image: Image<'d>,
    pub(crate) patchlets: Vec<PatchletImage<'d>>,
    pub(crate) records: FoundRecords<SiteImage>,
    pub(crate) tables: OpsTables<'d>,
    /// What the file says of its ops, by slot.
    pub(crate) op_records: Vec<OpRecord<'d>>,
    /// The ops, sorted by slot and index.
    pub(crate) ops: Vec<OpImage>,
    /// The variants of all ops, sorted by slot and place.
    pub(super) variants: Vec<VariantImage<'d>>,
    pub(crate) branches: FoundRecords<BranchImage>,
    /// The keys, sorted by address.
    pub(super) keys: Vec<KeyImage<'d>>,
    /// Whether no record of a key is damaged. Behind a damaged one none is read.
    pub(crate) knows_all_keys: bool,
    /// The position in `patchlets` for the address of a native function.
    pub(super) natives: HashMap<u64, usize>,
    /// Address of the no-op function, or [`SOME_NOP`].
    pub(crate) nop: u64,
    /// Address of the identity function, or [`SOME_IDENT`].
    pub(crate) ident: u64,
    pub(super) ident_patchlet: &'d [u8],
    /// Address of the function that returns 0, or [`SOME_ZERO`].
    pub(super) zero: u64,
    pub(super) zero_patchlet: &'d [u8],
    pub(super) trap: &'d [u8],
    /// What fills the sites that are patched.
    pub(super) nops: Nops,
    /// The NOPs of branch sites, if the file shows which: all have those of one family.
    pub(super) branch_nops: Option<Nops>,
    /// Slot → what it holds on the platform that the sites are compared with; the other
    /// slots hold their native functions.
    pub(crate) held: HashMap<u64, u64>,
    /// The defects that were found while the file was read.
    pub(crate) findings: Findings,
}

impl<'d> Model<'d> {
    /// Makes the model of a linked file.
    ///
    /// # Errors
    /// Returns an error if the file is an object, if its code is not of the width that its header
    /// says, or if sections share an address of a patchlet, a record, a slot or a site.
    pub fn new(image: Image<'d>) -> Result<Self, FileError> {
        let mut findings = Findings::default();
        let patchlets = find_patchlets(&image, &mut findings)?;
        let records = read_sites(&image, &mut findings)?;
        sites_are_of_width(&image, &records.list)?;
        let mut natives = HashMap::new();
        for (at, patchlet) in patchlets.iter().enumerate() {
            if let Some(native) = patchlet.native {
                natives.entry(native).or_insert(at);
            }
        }
        let mut op_records = read_op_records(&image, &mut findings);
        op_records.sort_by_key(|record| record.slot);
        let variants = read_variants(&image, &mut findings);
        let branches = read_branches(&image, &mut findings);
        let before = findings.total();
        let mut keys = read_keys(&image, &mut findings);
        let knows_all_keys = findings.total() == before;
        keys.sort_by_key(|key| key.address);
        let tables = OpsTables::find(&image, &records.list, &op_records, &natives);
        let mut model = Self {
            image,
            patchlets,
            records,
            tables,
            op_records,
            ops: vec![],
            variants,
            branches,
            keys,
            knows_all_keys,
            natives,
            nop: SOME_NOP,
            ident: SOME_IDENT,
            zero: SOME_ZERO,
            zero_patchlet: &[],
            ident_patchlet: &[],
            trap: &[],
            nops: Nops::Long,
            branch_nops: None,
            held: HashMap::new(),
            findings,
        };
        model.find_functions();
        model.find_ops();
        model.nops = model.nops_of_file();
        model.branch_nops = model.nops_of_branches();
        model.is_unambiguous()?;
        if model.is_without_patchlet() {
            model.findings = nothing_here(&model.image);
        }
        Ok(model)
    }

    /// Returns the findings of reading the file: defects of labels, index and tables, or that the
    /// file holds nothing of the crate.
    #[must_use]
    pub fn findings_of_reading(&self) -> Findings {
        self.findings.clone()
    }

    /// Returns whether the file holds nothing of the crate: no patchlet, no table of records, no
    /// ops table and no section for any of these.
    #[must_use]
    pub fn is_without_patchlet(&self) -> bool {
        let has_section = |name| self.image.section_named(name).is_some();
        self.patchlets.is_empty()
            && self.records.range.is_none()
            && self.tables.list.is_empty()
            && ![SITES.section, INDEX.section, BRANCHES.section, KEYS.section]
                .into_iter()
                .any(has_section)
    }

    /// Checks that no two sections share an address of a site or slot, so that it is certain which
    /// bytes are there.
    fn is_unambiguous(&self) -> Result<(), FileError> {
        let image = &self.image;
        for record in &self.records.list {
            let words = || format!("the site {:#x}", record.site);
            image.claimed_once(record.site, record.end(), words)?;
        }
        for op in &self.ops {
            let end = op.slot.saturating_add(image.width().pointer_size());
            image.claimed_once(op.slot, end, || format!("the slot {:#x}", op.slot))?;
        }
        for branch in &self.branches.list {
            let end = branch.site.saturating_add(u64::from(BRANCH_SIZE));
            let words = || format!("the branch site {:#x}", branch.site);
            image.claimed_once(branch.site, end, words)?;
        }
        for (key, address) in self.keys.iter().filter_map(|key| Some((key, key.address?))) {
            let words = || format!("the key `{}`", key.name);
            image.claimed_once(address, address.saturating_add(KEY_WORD), words)?;
        }
        Ok(())
    }

    /// Returns the ELF file.
    #[must_use]
    pub const fn image(&self) -> &Image<'d> {
        &self.image
    }

    /// Returns the patchlets, sorted by section and address.
    #[must_use]
    pub fn patchlets(&self) -> &[PatchletImage<'d>] {
        &self.patchlets
    }

    /// Returns the records of sites, in the order of their table.
    #[must_use]
    pub fn records(&self) -> &[SiteImage] {
        &self.records.list
    }

    /// Returns the ops tables, sorted by address.
    #[must_use]
    pub fn tables(&self) -> &[TableImage<'d>] {
        &self.tables.list
    }

    /// Returns the start address of the function that contains an address, or of its section if no
    /// function is known.
    pub(crate) fn start_of_function(&self, address: u64) -> u64 {
        let Some(section) = self.image.section_at(address) else { return address };
        let function = self.image.symbols().function(section.index, address);
        function.map_or(section.address, |(symbol, _)| symbol.address)
    }

    /// Returns the name of the function that contains an address and the offset in it, such as
    /// `main+0x12`. If no function is known, returns the section and the offset in it.
    #[must_use]
    pub fn function(&self, address: u64) -> String {
        let Some(section) = self.image.section_at(address) else { return "nowhere".to_owned() };
        match self.image.symbols().function(section.index, address) {
            Some((symbol, 0)) => self.image.symbols().readable(symbol).into_owned(),
            Some((symbol, offset)) => {
                format!("{}+{offset:#x}", self.image.symbols().readable(symbol))
            }
            None => format!("{}+{:#x}", section.name, address - section.address),
        }
    }
}

/// Returns the single finding for a file that holds nothing of the crate.
fn nothing_here(image: &Image<'_>) -> Findings {
    let mut findings = Findings::default();
    let fix = if image.symbols().is_empty() {
        "give the file before it is stripped, or keep the sections as patchlet.ld does"
    } else {
        "give the linked kernel, and link it with `patchlet`"
    };
    findings.add(
        FindingCode::NothingHere,
        None,
        image.words(),
        "there is no patchlet, no site and no ops table in it".to_owned(),
        fix,
    );
    findings
}
