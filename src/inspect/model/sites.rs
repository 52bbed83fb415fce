//! The sites of ops of a model: what they hold, and the bytes of what they can get.

use super::file::Model;
use crate::insn::{ComposeError, InsnBuffer, Kind, Nops, Replacement, Width};
use crate::inspect::error::FileError;
use crate::inspect::formats::{OpRecord, SiteImage};

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

impl<'d> Model<'d> {
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
    pub(super) fn nops_of_file(&self) -> Nops {
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
}
