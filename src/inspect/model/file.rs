//! The model of a linked file: its patchlets, its records, its ops tables, and the op that each
//! record belongs to.

use std::borrow::Cow;
use std::collections::HashMap;

use super::ops_tables::{OpsTables, TableImage};
use crate::choose::Choice;
use crate::insn::{ComposeError, InsnBuffer, Kind, Nops, Replacement, Width};
use crate::inspect::elf::Image;
use crate::inspect::error::FileError;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::{
    BRANCH_SIZE, BRANCHES, BranchImage, FoundRecords, INDEX, KEY_WORD, KEYS, KeyImage, Means,
    OpRecord, PV_TABLE_STARTS, PatchletImage, SITES, SiteImage, VariantImage, bytes_of,
    find_patchlets, read_branches, read_keys, read_op_records, read_sites, read_variants,
    sites_are_of_width,
};

/// Stands for the address of a native function that is not known. No function has this address.
const NOWHERE: u64 = 1;

/// Stands for the address of the no-op function if it is not known, so that a platform can still
/// have `nop` in a slot. No function has this address.
const SOME_NOP: u64 = 2;

/// Stands for the address of the identity function if it is not known, so that a platform can
/// still have `ident` in a slot. No function has this address.
const SOME_IDENT: u64 = 3;

/// Stands for the address of the function that returns 0 if it is not known. No function has this
/// address.
const SOME_ZERO: u64 = 4;

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

/// The state of a site in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SiteState {
    /// The site holds the indirect call or jump that the assembler put there.
    Indirect,
    /// The site holds its replacement on bare metal, or on the platform of
    /// [`on_platform`](crate::inspect::on_platform): it was patched ahead of boot.
    Native,
    /// The site holds its replacement for another variant of its op: it was patched ahead of boot
    /// for a CPU.
    Variant,
    /// The site holds other bytes.
    Foreign,
}

impl SiteState {
    /// Returns the word by which the tool prints this state.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Indirect => "indirect",
            Self::Native => "native",
            Self::Variant => "variant",
            Self::Foreign => "foreign",
        }
    }
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
    ident_patchlet: &'d [u8],
    /// Address of the function that returns 0, or [`SOME_ZERO`].
    zero: u64,
    zero_patchlet: &'d [u8],
    trap: &'d [u8],
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

    /// Returns the op that a record belongs to.
    #[must_use]
    pub fn op(&self, record: &SiteImage) -> Option<&OpImage> {
        let wanted = (record.slot, record.op);
        let at = self.ops.binary_search_by_key(&wanted, |op| (op.slot, op.index)).ok()?;
        self.ops.get(at)
    }

    /// Returns the name of an op, `irq.save_fl`. In a file that does not say it, this is the name
    /// of its patchlet or native function; for want of one `table[index]`.
    #[must_use]
    pub fn op_name(&self, op: &OpImage) -> String {
        self.name_of_slot(op.slot, op.index)
    }

    /// Returns whether an op is meant by these words: its name with or without the group and
    /// with or without `table.` before it, or `table[index]`.
    pub(crate) fn is_meant(&self, op: &OpImage, words: &str) -> bool {
        let in_table = words.strip_prefix(&*self.table_words(op));
        if in_table.is_some_and(|rest| rest == format!("[{}]", op.index)) {
            return true;
        }
        let wanted = in_table.and_then(|rest| rest.strip_prefix('.')).unwrap_or(words);
        // Only a name from the file's records has a group; the dot in the name of a function does
        // not end one.
        let record = self.op_record(op.slot);
        let without_group = record.and_then(|record| record.name.split_once('.'));
        self.op_name(op) == wanted || without_group.is_some_and(|(_, name)| name == wanted)
    }

    /// Returns the name of an op's table; nothing if it has none.
    pub(crate) fn table_words(&self, op: &OpImage) -> Cow<'_, str> {
        let table = op.table.and_then(|at| self.tables.list.get(at));
        table.map_or_else(Cow::default, TableImage::words)
    }

    /// Returns the name of the first op that has this patchlet natively, or else of one that has it
    /// as a variant; that of the patchlet, if the file does not say of which op it is.
    pub(crate) fn op_name_of_patchlet(&self, patchlet: &PatchletImage<'d>) -> &'d str {
        let is_native =
            |slot| patchlet.native.is_some() && self.image.pointer_at(slot) == patchlet.native;
        let is_variant = |variant: &&VariantImage<'_>| patchlet.native == Some(variant.function);
        let natively = self.op_records.iter().find(|record| is_native(record.slot));
        let record = natively.or_else(|| {
            let variant = self.variants.iter().find(is_variant)?;
            self.op_record(variant.slot)
        });
        record.map_or(patchlet.name, |record| record.name)
    }

    /// Returns what the file says of the op whose slot is at this address.
    pub(crate) fn op_record(&self, slot: u64) -> Option<&OpRecord<'d>> {
        let at = self.op_records.binary_search_by_key(&slot, |record| record.slot).ok()?;
        self.op_records.get(at)
    }

    /// Returns the error of a name that no op has whose sites are in the file.
    pub(crate) fn no_such_op(&self, words: &str) -> FileError {
        /// More than anybody reads.
        const MANY: usize = 100;
        let mut names: Vec<String> =
            self.ops.iter().take(MANY).map(|op| self.op_name(op)).collect();
        names.sort_unstable();
        names.dedup();
        FileError::new(format!("no site is of an op `{words}`; there are {}", names.join(", ")))
    }

    /// Returns the name of the op that a record belongs to, or `?` if there is none.
    pub(crate) fn op_name_of(&self, record: &SiteImage) -> String {
        self.op(record).map_or_else(|| "?".to_owned(), |op| self.op_name(op))
    }

    /// Finds the no-op function, the identity function and the one that returns 0, and the patchlets
    /// of these and of the trap.
    fn find_functions(&mut self) {
        let symbol = |name| self.image.symbols().find(name).map(|symbol| symbol.address);
        let nop = symbol("patchlet_nop").or_else(|| self.function_of_nothing());
        let ident = match self.image.width() {
            Width::Bits64 => self
                .patchlets
                .iter()
                .find(|patchlet| patchlet.name == "ident_64")
                .and_then(|patchlet| patchlet.native),
            Width::Bits32 => symbol("patchlet_ident").or_else(|| self.builtin_ident()),
        };
        self.nop = nop.unwrap_or(SOME_NOP);
        self.ident = ident.unwrap_or(SOME_IDENT);
        self.zero = symbol("patchlet_zero").unwrap_or(SOME_ZERO);
        let named = |name: &str| {
            let found = self.patchlets.iter().find(|patchlet| patchlet.name == name);
            found.map_or_else(|| bytes_of(self.image.width(), name), |patchlet| patchlet.bytes)
        };
        // On 32 bit there is no patchlet `ident_64`, and its bytes are empty: argument and result
        // are in the same register.
        (self.ident_patchlet, self.trap) = (named("ident_64"), named("ud2"));
        self.zero_patchlet = named("vcpu_is_preempted");
    }

    /// Returns the function of an op or a variant that is nothing, as the file's records say it. It is
    /// the no-op function; in a stripped file nothing else says which one that is.
    fn function_of_nothing(&self) -> Option<u64> {
        let is_nothing = |means| means == Means::Nothing;
        let mut ops = self.op_records.iter();
        let mut variants = self.variants.iter();
        let op = ops.find(|op| is_nothing(op.means)).map(|op| self.image.pointer_at(op.slot));
        let variant = || variants.find(|found| is_nothing(found.means)).map(|found| found.function);
        op.flatten().or_else(variant)
    }

    /// Returns the address that the slot of `ident` in the built-in table holds. In a stripped
    /// file, the built-in table is recognized by its first slots, which stand before this one.
    fn builtin_ident(&self) -> Option<u64> {
        let pointer = self.image.width().pointer_size();
        let starts = |table: &&TableImage<'_>| {
            PV_TABLE_STARTS.iter().zip(0..).all(|(&name, index)| {
                let slot = table.address.checked_add(index * pointer);
                slot.and_then(|slot| self.patchlet_behind(slot)).is_some_and(|at| {
                    self.patchlets.get(at).is_some_and(|patchlet| patchlet.name == name)
                })
            })
        };
        let table = self.tables.list.iter().find(starts)?;
        let slot = PV_TABLE_STARTS.len() as u64 * pointer;
        self.image.pointer_at(table.address.checked_add(slot)?)
    }

    /// Returns the position of the patchlet whose native function a slot holds in the file.
    fn patchlet_behind(&self, slot: u64) -> Option<usize> {
        self.natives.get(&self.image.pointer_at(slot)?).copied()
    }

    fn find_ops(&mut self) {
        let mut slots: Vec<(u64, u16)> =
            self.records.list.iter().map(|record| (record.slot, record.op)).collect();
        slots.sort_unstable();
        slots.dedup();
        self.ops = slots.into_iter().map(|(slot, index)| self.op_of(slot, index)).collect();
    }

    /// Returns the op of this slot and index, whether it has a site in this file or not.
    pub(crate) fn op_of(&self, slot: u64, index: u16) -> OpImage {
        OpImage {
            slot,
            index,
            table: self.tables.containing(slot).map(|(table, _)| table),
            native: self.image.pointer_at(slot),
            patchlet: self.patchlet_behind(slot),
        }
    }

    /// Returns the name of the op of this slot and index.
    pub(crate) fn name_of_slot(&self, slot: u64, index: u16) -> String {
        if let Some(record) = self.op_record(slot) {
            return record.name.to_owned();
        }
        let symbols = self.image.symbols();
        let native = self.image.pointer_at(slot).filter(|&native| native != 0);
        if native == Some(self.ident) {
            return "ident".to_owned();
        }
        if let Some(patchlet) = self.patchlet_behind(slot).and_then(|at| self.patchlets.get(at)) {
            return patchlet.name.to_owned();
        }
        let function = native.and_then(|native| {
            let mut names = symbols.at(native).iter().map(|symbol| symbols.readable(symbol));
            names.next()
        });
        if let Some(name) = function {
            return name.strip_prefix("patchlet_native_").unwrap_or(&name).to_owned();
        }
        match self.tables.containing(slot).and_then(|(table, _)| self.tables.list.get(table)) {
            Some(table) => format!("{}[{index}]", table.words()),
            None => format!("{slot:#x}[{index}]"),
        }
    }

    /// Returns what a site of this kind of an op gets while the op's slot holds `target`.
    #[must_use]
    pub fn replacement(&self, op: &OpImage, target: u64, kind: Kind) -> Replacement<'d> {
        let choice = Choice {
            nop: self.nop,
            ident: self.ident,
            ident_patchlet: self.ident_patchlet,
            zero: self.zero,
            zero_patchlet: self.zero_patchlet,
            trap: self.trap,
        };
        // A file without records of ops does not say that an op is a function natively.
        let is_function = self.op_record(op.slot).is_some_and(|op| op.means != Means::Patchlet);
        let patchlet = op.patchlet.and_then(|at| self.patchlets.get(at)).filter(|_| !is_function);
        let default = patchlet.map(|patchlet| (op.native.unwrap_or(NOWHERE), patchlet.bytes));
        let mut own = default.into_iter().chain(self.patchlets_of_variants(op));
        choice.replacement(target, kind, |target| {
            own.find(|&(native, _)| native == target).map(|(_, bytes)| bytes)
        })
    }

    /// Returns the bytes of a site, or `None` if the site is not in a section of the file.
    #[must_use]
    pub fn present(&self, record: &SiteImage) -> Option<InsnBuffer> {
        InsnBuffer::copy_of(self.image.bytes_at(record.site, u64::from(record.capacity))?)
    }

    /// Returns the bytes of an unpatched site: its indirect call or jump.
    ///
    /// # Errors
    /// Returns an error if this instruction cannot be encoded in the site.
    pub fn indirect(&self, record: &SiteImage, kind: Kind) -> Result<InsnBuffer, ComposeError> {
        self.composed(record, &Replacement::Indirect(kind, record.slot))
    }

    /// Returns the NOPs that the file was compiled for. They are those that its kernel patches with,
    /// unless it asks for others. A 32-bit file that does not say it may be for CPUs without NOPL.
    fn nops_of_file(&self) -> Nops {
        let is_long = |record: &OpRecord<'_>| record.nops == Nops::Long;
        let says_so = !self.op_records.is_empty() && self.op_records.iter().all(is_long);
        match self.image.width() {
            Width::Bits32 if !says_so => Nops::Lea,
            Width::Bits32 | Width::Bits64 => Nops::Long,
        }
    }

    /// Patches with other NOPs than those that the file was compiled for.
    ///
    /// # Errors
    /// Returns an error if CPUs of the file's width do not have these NOPs.
    pub fn with_nops(mut self, nops: Nops) -> Result<Self, FileError> {
        if (self.image.width(), nops) == (Width::Bits64, Nops::Lea) {
            return Err(FileError::new(
                "64-bit code: `lea` and `mov` of a register to itself are NOPs in 32-bit code only, \
                 and every 64-bit CPU has NOPL",
            ));
        }
        self.nops = nops;
        Ok(self)
    }

    /// Returns what fills the sites that are patched.
    pub(crate) const fn nops(&self) -> Nops {
        self.nops
    }

    /// Returns the functions that any op may have in its slot: the no-op function, the identity, and
    /// the one that returns 0. One that is not known has a number that is no address.
    pub(crate) const fn functions(&self) -> [u64; 3] {
        [self.nop, self.ident, self.zero]
    }

    /// Returns the site with this replacement. Its NOPs are those that the file was compiled for, or
    /// were [chosen](Self::with_nops).
    ///
    /// # Errors
    /// Returns an error if the replacement cannot be encoded in the site.
    pub fn composed(
        &self,
        record: &SiteImage,
        replacement: &Replacement<'_>,
    ) -> Result<InsnBuffer, ComposeError> {
        self.composed_with(self.nops, record, replacement)
    }

    fn composed_with(
        &self,
        nops: Nops,
        record: &SiteImage,
        replacement: &Replacement<'_>,
    ) -> Result<InsnBuffer, ComposeError> {
        let width = self.image.width();
        InsnBuffer::compose(width, nops, record.site, record.capacity, replacement)
    }

    /// Returns the bytes of a site that is patched ahead of boot: with its replacement on bare
    /// metal, or on the platform of [`on_platform`](crate::inspect::on_platform).
    ///
    /// # Errors
    /// Returns an error if the replacement cannot be encoded in the site.
    pub fn native(&self, record: &SiteImage, kind: Kind) -> Result<InsnBuffer, ComposeError> {
        self.composed(record, &self.ahead_of_boot(record, kind))
    }

    fn ahead_of_boot(&self, record: &SiteImage, kind: Kind) -> Replacement<'d> {
        self.op(record).map_or(Replacement::Nops, |op| {
            let held = self.held.get(&op.slot).copied().or(op.native);
            self.replacement(op, held.unwrap_or(0), kind)
        })
    }

    /// Returns what a site holds at present. Patched it is with either kind of NOPs: which one is
    /// right depends on the CPUs, and not on the file.
    #[must_use]
    pub fn state(&self, record: &SiteImage) -> SiteState {
        let (Some(present), Some(kind)) = (self.present(record), record.kind()) else {
            return SiteState::Foreign;
        };
        let holds = |replacement: &Replacement<'_>| {
            let is = |&nops: &Nops| self.composed_with(nops, record, replacement) == Ok(present);
            [Nops::Long, Nops::Lea].iter().any(is)
        };
        if self.indirect(record, kind) == Ok(present) {
            SiteState::Indirect
        } else if holds(&self.ahead_of_boot(record, kind)) {
            SiteState::Native
        } else if self.op(record).is_some_and(|op| {
            let mut variants = self.variants_of(op.slot).iter();
            variants.any(|variant| holds(&self.replacement(op, variant.function, kind)))
        }) {
            SiteState::Variant
        } else {
            SiteState::Foreign
        }
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
