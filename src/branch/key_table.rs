//! The keys of a linked object, as their records in the section `patchlet_keys` list them.
//!
//! A record, little-endian, at a multiple of 4:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | address of the key, relative to this field |
//! | 4 | 1 | the state in which the key starts: 0 off, 1 on |
//! | 5 | 1 | 1 for a counted key, else 0 |
//! | 6 | 1 | 0 |
//! | 7 | 1 | length of the key's name, in bytes |
//! | 8 | … | the name, then zeros up to a multiple of 4 |
//!
//! Unsafe code here goes from a record to the key that it names. The record was written by `keys!`,
//! which names the key itself; that only such records stand in a table is the contract of
//! [`Keys::between`], and for the linked table that of the section's name.
#![allow(unsafe_code)]

use core::hint::black_box;

use super::key::KeyCell;

/// The keys of one linked object. A key that has no branch is not among them.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    records: &'static [u8],
}

/// A key, as its record describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownKey {
    pub(super) cell: &'static KeyCell,
    pub(super) starts_on: bool,
    pub(super) name: &'static str,
}

impl Keys {
    /// Returns the keys of the program: the records that the linker collected from all crates into
    /// the section `patchlet_keys`.
    #[must_use]
    #[inline(never)]
    pub fn linked() -> Self {
        unsafe extern "C" {
            static __start_patchlet_keys: [u8; 0];
            static __stop_patchlet_keys: [u8; 0];
        }
        // An empty input section, so that the section and the symbols that bound it exist in a
        // program without a single key. The relocation, which changes no byte, keeps it.
        // SAFETY: these are directives; not one instruction is executed.
        unsafe {
            core::arch::asm!(
                ".hidden __start_patchlet_keys, __stop_patchlet_keys",
                "77:",
                ".pushsection patchlet_keys, \"a\", @progbits",
                ".balign 4",
                "78:",
                ".popsection",
                ".reloc 77b, BFD_RELOC_NONE, 78b",
                options(att_syntax, nomem, nostack, preserves_flags)
            );
        }
        // As in `Sites::linked`.
        let start = black_box(&raw const __start_patchlet_keys).expose_provenance();
        let stop = black_box(&raw const __stop_patchlet_keys).addr();
        let len = stop.wrapping_sub(start);
        // SAFETY: the linker itself or patchlet.ld defines the two symbols as the bounds of one
        // output section, in which only `keys!` puts something. It is read-only and mapped for as
        // long as the program runs, and so are the keys.
        unsafe { Self::between(core::ptr::with_exposed_provenance(start), len) }
    }

    /// Returns the keys whose records are the `len` bytes from `start`.
    ///
    /// # Safety
    /// - `start` is aligned to 4 and not null, and `len` bytes from it are readable;
    /// - `start` is not null, and `len` bytes from it are readable;
    /// - these bytes are the whole section `patchlet_keys` of one linked object, in which only
    ///   [`keys!`](crate::keys!) put something, relocated to where the object is;
    /// - section and keys stay as long as this, a [`BranchSource`](super::BranchSource) made of it,
    ///   or an error or plan of one is used, and nothing writes to the section.
    #[must_use]
    pub const unsafe fn between(start: *const u8, len: usize) -> Self {
        // SAFETY: the caller says that these bytes are a section that stays and is not written.
        Self { records: unsafe { core::slice::from_raw_parts(start, len) } }
    }

    /// Returns each key, in the order of the section.
    pub(super) fn all(self) -> impl Iterator<Item = KnownKey> {
        let mut rest = self.records;
        core::iter::from_fn(move || {
            let (record, following) = split_first(rest)?;
            rest = following;
            known_key(record)
        })
    }
}

/// The bytes of a record in front of the name.
const HEADER: usize = 8;

/// Splits the first record off, without what follows its name.
fn split_first(records: &'static [u8]) -> Option<(&'static [u8], &'static [u8])> {
    let len = HEADER + usize::from(*records.get(HEADER - 1)?);
    Some((records.get(..len)?, records.get(len.next_multiple_of(4)..)?))
}

/// Returns the key that a record describes.
fn known_key(record: &'static [u8]) -> Option<KnownKey> {
    let (&[a, b, c, d, initial, _, _, _], name) = record.split_first_chunk::<HEADER>()?;
    let distance = i32::from_le_bytes([a, b, c, d]);
    let address = record.as_ptr().addr().wrapping_add_signed(distance as isize);
    // SAFETY: by the contract of `Keys::between` this is a record of `keys!`, which has the address
    // of a key that stays, and the text of an identifier.
    let (cell, name) = unsafe {
        (&*core::ptr::with_exposed_provenance(address), core::str::from_utf8_unchecked(name))
    };
    Some(KnownKey { cell, starts_on: initial != 0, name })
}
