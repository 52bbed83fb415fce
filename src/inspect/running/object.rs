//! The linked objects of a running kernel, itself and its modules, and what it has in memory of each.

use crate::insn::{InsnBuffer, Kind, Nops, Replacement, Width};
use crate::inspect::elf::{PlacedModule, little_endian};
use crate::inspect::explain::Located;
use crate::inspect::formats::{BranchImage, KEY_WORD, KeyImage, SiteImage};
use crate::inspect::model::{Model, OpImage};

/// A linked object in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a, 'd> {
    pub model: &'a Model<'d>,
    /// What is added to an address of the file to have the one in memory.
    pub slide: u64,
    /// The name of its file, and where its sections are; `None` for the kernel.
    pub module: Option<(&'a str, &'a PlacedModule)>,
}

impl Object<'_, '_> {
    /// Returns the name of the module's file; `None` for the kernel.
    pub fn name(&self) -> Option<&str> {
        self.module.map(|(name, _)| name)
    }

    /// Returns the address in memory of an address of the file.
    pub fn running(&self, address: u64) -> u64 {
        wrapped(self.model.image.width(), address.wrapping_add(self.slide))
    }

    /// Returns the address of the file of one in memory.
    pub fn of_file(&self, address: u64) -> u64 {
        wrapped(self.model.image.width(), address.wrapping_sub(self.slide))
    }

    /// Returns whether the object has bytes or zeroed memory at an address in memory.
    fn has(&self, address: u64) -> bool {
        let is_made_up = self.module.is_some_and(|(_, placed)| placed.is_made_up(address));
        !is_made_up && self.model.image.section_at(self.of_file(address)).is_some()
    }
}

/// Returns an address within the width.
pub(super) const fn wrapped(width: Width, address: u64) -> u64 {
    match width {
        Width::Bits32 => address & 0xffff_ffff,
        Width::Bits64 => address,
    }
}

/// The kernel and its modules, and the dump that they are in.
#[derive(Debug)]
pub(super) struct Running<'a, 'd> {
    /// The kernel comes first.
    pub objects: Vec<Object<'a, 'd>>,
    pub located: &'a Located<'a, 'a>,
    /// What fills sites behind a shorter replacement.
    pub nops: Nops,
}

/// The content that a site can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SiteContent {
    /// What the assembler wrote.
    Original,
    /// What the site of an op gets while its slot holds this address, which is one in memory.
    Holds(u64),
    /// What a branch gets while its key is on, or off.
    Direction(bool),
}

/// The record of a site.
#[derive(Clone, Copy, Debug)]
pub(super) enum SiteRecord<'a> {
    Op(&'a SiteImage, Kind),
    Branch(&'a BranchImage),
}

impl SiteRecord<'_> {
    /// Returns the address of the site in the file, and how many bytes it has.
    pub const fn place(&self) -> (u64, u8) {
        match self {
            Self::Op(record, _) => (record.site, record.capacity),
            Self::Branch(record) => (record.site, record.capacity),
        }
    }
}

impl<'a, 'd> Running<'a, 'd> {
    /// Returns the kernel.
    pub fn kernel(&self) -> Option<&Object<'a, 'd>> {
        self.objects.first()
    }

    /// Returns bytes of an object in memory, at an address of its file.
    pub fn bytes(&self, object: &Object<'_, '_>, address: u64, len: usize) -> Option<Vec<u8>> {
        match object.module {
            None => self.located.bytes(address, len).map(<[u8]>::to_vec),
            Some((_, placed)) if placed.is_made_up(address) => None,
            Some(_) => self.located.virtual_copy(object.running(address), len),
        }
    }

    /// Returns the object that has an address in memory. A kernel can have a section without content
    /// in which it puts modules.
    pub fn object_at(&self, address: u64) -> Option<&Object<'a, 'd>> {
        self.objects.iter().rev().find(|object| object.has(address))
    }

    /// Returns the op with the slot at an address in memory, and the object that defines it.
    pub fn op(&self, slot: u64, index: u16) -> Option<(&Object<'a, 'd>, OpImage)> {
        let owner = self.object_at(slot)?;
        Some((owner, owner.model.op_of(owner.of_file(slot), index)))
    }

    /// Returns what a slot at an address in memory holds.
    pub fn slot(&self, slot: u64) -> Option<u64> {
        let owner = self.object_at(slot)?;
        let size = usize::try_from(owner.model.image.width().pointer_size()).ok()?;
        self.bytes(owner, owner.of_file(slot), size).map(|bytes| little_endian(&bytes))
    }

    /// Returns the key at an address in memory, and the object that defines it.
    pub fn key(&self, key: u64) -> Option<(&Object<'a, 'd>, &'a KeyImage<'d>)> {
        let owner = self.object_at(key)?;
        Some((owner, owner.model.key_at(owner.of_file(key))?))
    }

    /// Returns whether a key at an address in memory is on, and whether it was when the branches of
    /// its own object were last patched: the two bytes behind its first word.
    pub fn key_state(&self, key: u64) -> Option<(bool, bool)> {
        let owner = self.object_at(key)?;
        let bytes = self.bytes(owner, owner.of_file(key), KEY_WORD as usize + 1)?;
        let (now, last_applied) = bytes.split_at_checked(KEY_WORD as usize)?;
        Some((little_endian(now) != 0, little_endian(last_applied) != 0))
    }

    /// Returns the bytes of a site in a form; `None` if the site cannot have it.
    pub fn form(
        &self,
        object: &Object<'_, '_>,
        record: &SiteRecord<'_>,
        form: SiteContent,
    ) -> Option<InsnBuffer> {
        match (record, form) {
            (SiteRecord::Op(record, kind), SiteContent::Original) => {
                let slot = object.running(record.slot);
                self.composed(object, record, &Replacement::Indirect(*kind, slot))
            }
            (SiteRecord::Op(record, kind), SiteContent::Holds(target)) => {
                let replacement =
                    self.replacement(object.running(record.slot), record.op, target, *kind)?;
                self.composed(object, record, &replacement)
            }
            (SiteRecord::Branch(record), SiteContent::Original) => {
                let (_, key) = self.key(object.running(record.key))?;
                object.model.branch_bytes_for(record, key.initially_on).ok()
            }
            (SiteRecord::Branch(record), SiteContent::Direction(is_on)) => {
                object.model.branch_bytes_for(record, is_on).ok()
            }
            (SiteRecord::Op(..), SiteContent::Direction(_))
            | (SiteRecord::Branch(_), SiteContent::Holds(_)) => None,
        }
    }

    /// Returns what a site of this kind of an op gets while the op's slot holds `target`. All
    /// addresses are those in memory.
    pub fn replacement(
        &self,
        slot: u64,
        index: u16,
        target: u64,
        kind: Kind,
    ) -> Option<Replacement<'d>> {
        let (owner, op) = self.op(slot, index)?;
        // The crate's own functions are in the kernel; a module knows them by made-up numbers.
        let kernel = self.kernel()?;
        let of_crate = kernel.model.functions().into_iter().zip(owner.model.functions());
        let in_file = of_crate
            .filter(|&(in_kernel, _)| kernel.running(in_kernel) == target)
            .map(|(_, in_owner)| in_owner)
            .next()
            .unwrap_or_else(|| if target == 0 { 0 } else { owner.of_file(target) });
        let replacement = owner.model.replacement(&op, in_file, kind);
        Some(match replacement {
            Replacement::Call(_) => Replacement::Call(target),
            Replacement::Jump(_) => Replacement::Jump(target),
            other => other,
        })
    }

    fn composed(
        &self,
        object: &Object<'_, '_>,
        record: &SiteImage,
        replacement: &Replacement<'_>,
    ) -> Option<InsnBuffer> {
        let width = object.model.image.width();
        let address = object.running(record.site);
        InsnBuffer::compose(width, self.nops, address, record.capacity, replacement).ok()
    }

    /// Returns the name of what is at an address in memory, or the address.
    pub fn name_at(&self, address: u64) -> String {
        let named = self.object_at(address).and_then(|object| {
            let section = object.model.image.section_at(object.of_file(address))?;
            let symbols = object.model.image.symbols();
            let (symbol, offset) = symbols.function(section.index, object.of_file(address))?;
            let name = symbols.readable(symbol);
            Some(if offset == 0 { name.into_owned() } else { format!("{name}+{offset:#x}") })
        });
        named.unwrap_or_else(|| format!("{address:#x}"))
    }

    /// Returns whether certainly no function is at an address in memory that a slot holds, null
    /// apart.
    pub fn is_no_function(&self, address: u64) -> bool {
        let is_known = self.object_at(address).is_some() || self.located.pages.is_some();
        address != 0 && is_known && !self.is_function(address)
    }

    /// Returns whether a function can be at an address in memory: one of a known object begins there
    /// or, where no object is known, the memory can be executed.
    pub fn is_function(&self, address: u64) -> bool {
        let Some(object) = self.object_at(address) else {
            return self.located.pages.is_some() && self.located.is_executable_at(address);
        };
        let image = &object.model.image;
        let in_file = object.of_file(address);
        let in_text = image.section_at(in_file).is_some_and(|section| section.is_executable());
        in_text && (image.symbols().is_empty() || !image.symbols().at(in_file).is_empty())
    }
}
