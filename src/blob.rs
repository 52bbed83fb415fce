//! Blobs: patchlets that are copied whole. Their places become numbers, and the holes of a copy are
//! filled. This file knows neither sites nor CPUs.
//!
//! Unsafe code here declares the labels of a blob, and is written by the macro
//! [`blobs!`](crate::blobs!) into the crate of the blob. It is sound for the same reason as in
//! `src/patchlet.rs`.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use crate::patchlet::between;

/// A patchlet that is copied whole and entered where it was copied to. In it, places have names,
/// and operands of instructions can be left open as holes.
///
/// Only [`blobs!`](crate::blobs) makes values of this type.
pub struct Blob {
    name: &'static str,
    start: &'static [u8; 0],
    end: &'static [u8; 0],
}

impl Blob {
    /// Makes a blob of its name and two of its labels.
    ///
    /// # Safety
    /// - `start` and `end` are the labels `patchlet_<name>_start` and `patchlet_<name>_holes_are_<n>`
    ///   that `PATCHLET_BLOB(name)` and `END_PATCHLET_BLOB(name)` of `patchlet.h` define;
    /// - nothing else declares these symbols.
    #[doc(hidden)]
    pub const unsafe fn from_labels(
        name: &'static str,
        start: &'static [u8; 0],
        end: &'static [u8; 0],
    ) -> Self {
        Self { name, start, end }
    }

    /// Returns the blob's name: `<name>` of its label `patchlet_<name>_start`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the bytes of the blob as they were linked, with no hole filled.
    #[must_use]
    pub fn bytes(&self) -> &'static [u8] {
        between(self.start, self.end)
    }

    /// Returns the offset of a label in the blob, in bytes.
    #[doc(hidden)]
    #[must_use]
    pub fn offset_of(&self, label: &'static [u8; 0]) -> usize {
        label.as_ptr().addr().wrapping_sub(self.start.as_ptr().addr())
    }

    /// Copies the blob to the start of a buffer and fills the holes of the copy. `H` is the type of
    /// [`blobs!`](crate::blobs) that stands for the holes of this blob, and `holes` are all of them.
    ///
    /// # Safety
    /// - that is so: what is returned is taken for the proof of it.
    ///
    /// ```compile_fail,E0133
    /// patchlet::blobs! {
    ///     mod own { start_cpu { holes { stack: u64 } } }
    /// }
    /// # use own::start_cpu;
    /// fn not_filled(buffer: &mut [u8]) {
    ///     let _ = start_cpu::BLOB.fill::<start_cpu::Holes>(&[], buffer);
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Returns every variant of [`FillError`]. The buffer is then as it was before.
    #[doc(hidden)]
    pub unsafe fn fill<'b, H>(
        &self,
        holes: &[Hole],
        buffer: &'b mut [u8],
    ) -> Result<Filled<'b, H>, FillError> {
        let (code, blob, len) = (self.bytes(), self.name, buffer.len());
        let Some(copy) = buffer.get_mut(..code.len()) else {
            return Err(FillError::TooSmall { blob, needed: code.len(), len });
        };
        for hole in holes {
            if !hole.operand.fits() {
                return Err(FillError::OutOfRange { blob, hole: hole.name, operand: hole.operand });
            }
            let at = self.offset_of(hole.label);
            if at.checked_add(hole.operand.width()).is_none_or(|end| end > code.len()) {
                return Err(FillError::Outside { blob, hole: hole.name });
            }
        }
        copy.copy_from_slice(code);
        for hole in holes {
            let places = copy.iter_mut().skip(self.offset_of(hole.label));
            let bytes = hole.operand.to_bits().to_le_bytes();
            places.zip(bytes).take(hole.operand.width()).for_each(|(to, byte)| *to = byte);
        }
        Ok(Filled { bytes: copy, holes: PhantomData })
    }
}

/// Writes the name and the length, `start_cpu: 112 bytes`.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.name, self.bytes().len())
    }
}

/// A hole of a blob, and what fills it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// The name of the hole.
    pub name: &'static str,
    /// The label of its first byte.
    pub label: &'static [u8; 0],
    /// What fills it.
    pub operand: HoleOperand,
}

/// A number for a hole, and the type of the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoleOperand {
    /// For a hole of 1, 2, 4 or 8 bytes that holds a number without a sign.
    Unsigned {
        /// The number.
        value: u64,
        /// Width of the hole, in bytes.
        width: u8,
    },
    /// For a hole of 1, 2, 4 or 8 bytes whose sign the CPU extends.
    Signed {
        /// The number.
        value: i64,
        /// Width of the hole, in bytes.
        width: u8,
    },
}

impl HoleOperand {
    #[doc(hidden)]
    #[must_use]
    pub const fn unsigned(value: u64, width: u8) -> Self {
        Self::Unsigned { value, width }
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn signed(value: i64, width: u8) -> Self {
        Self::Signed { value, width }
    }

    fn width(self) -> usize {
        let (Self::Unsigned { width, .. } | Self::Signed { width, .. }) = self;
        usize::from(width)
    }

    /// Returns the number as 64 bits, of which the lowest go into the hole.
    fn to_bits(self) -> u64 {
        match self {
            Self::Unsigned { value, .. } => value,
            Self::Signed { value, .. } => value.cast_unsigned(),
        }
    }

    /// Returns whether the hole can hold the number: whether the CPU, which extends the hole to 64
    /// bits, gets the number back.
    fn fits(self) -> bool {
        let unused = 64_u32.saturating_sub(8 * self.width() as u32);
        let extended = match self {
            Self::Unsigned { value, .. } => {
                value.checked_shl(unused).and_then(|value| value.checked_shr(unused))
            }
            Self::Signed { value, .. } => value
                .checked_shl(unused)
                .and_then(|value| value.checked_shr(unused))
                .map(i64::cast_unsigned),
        };
        extended == Some(self.to_bits())
    }
}

/// Writes the number in hex, `-0x8` for a negative one.
impl fmt::Display for HoleOperand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Signed { value, .. } if value < 0 => write!(f, "-{:#x}", value.unsigned_abs()),
            other => write!(f, "{:#x}", other.to_bits()),
        }
    }
}

/// A copy of a blob in which all holes are filled. A value of this type is the proof of it: only
/// `Holes::fill` of the module that [`blobs!`](crate::blobs) defines for the blob makes one, and `H`
/// is that type `Holes`, so that a function can ask for a copy of one certain blob.
pub struct Filled<'b, H> {
    bytes: &'b mut [u8],
    holes: PhantomData<fn() -> H>,
}

impl<H> Filled<'_, H> {
    /// Returns the copy: as many bytes of the buffer as the blob has.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

/// Writes the length.
impl<H> fmt::Debug for Filled<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, all holes filled", self.bytes.len())
    }
}

/// The reason why a copy of a blob was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FillError {
    /// The buffer is shorter than the blob.
    TooSmall {
        /// Name of the blob.
        blob: &'static str,
        /// Length of the blob, in bytes.
        needed: usize,
        /// Length of the buffer, in bytes.
        len: usize,
    },
    /// A hole cannot hold the number that was given for it.
    OutOfRange {
        /// Name of the blob.
        blob: &'static str,
        /// Name of the hole.
        hole: &'static str,
        /// The number and the type of the hole.
        operand: HoleOperand,
    },
    /// The label of a hole is not in the blob.
    Outside {
        /// Name of the blob.
        blob: &'static str,
        /// Name of the hole.
        hole: &'static str,
    },
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooSmall { blob, needed, len } => {
                write!(
                    f,
                    "blob `{blob}` has {needed} bytes, and the buffer {len}: give a larger one"
                )
            }
            Self::OutOfRange { blob, hole, operand } => {
                let sign = match operand {
                    HoleOperand::Unsigned { .. } => "without a sign",
                    HoleOperand::Signed { .. } => "with a sign",
                };
                let width = operand.width();
                write!(
                    f,
                    "hole `{hole}` of blob `{blob}` cannot hold {operand}: it is a number {sign} of \
                     {width} byte(s); give a smaller one, or change the instruction"
                )
            }
            Self::Outside { blob, hole } => write!(
                f,
                "hole `{hole}` is not in blob `{blob}`: define it by PATCHLET_HOLE of patchlet.h, \
                 and link the objects of one build"
            ),
        }
    }
}

impl core::error::Error for FillError {}

/// Declares the blobs of a `.S` file to Rust: a module for each.
///
/// ```no_run
/// patchlet::blobs! {
///     /// Code that this kernel copies.
///     pub mod own {
///         /// What a CPU executes first.
///         start_cpu {
///             offsets { protected, long }
///             holes {
///                 /// Where its stack ends.
///                 stack: u64,
///                 /// The physical address of its page table.
///                 page_table: u32,
///             }
///         }
///     }
/// }
/// # fn start(_: usize) {}
///
/// fn prepare(page: &mut [u8; 4096]) -> Result<(), patchlet::FillError> {
///     let holes = own::start_cpu::Holes { stack: 0xffff_8000_0010_0000, page_table: 0x1000 };
///     let code = holes.fill(page)?;
///     assert_eq!(code.bytes().len(), own::start_cpu::BLOB.bytes().len());
///     start(0x8000 + own::start_cpu::offset::long());
///     Ok(())
/// }
/// ```
///
/// The module of a blob has
/// - `BLOB`, the [`Blob`]: its name, and the bytes as they were linked;
/// - `offset`, with a function for each place that returns its offset in bytes;
/// - `Holes`, a struct with a field for each hole. A hole that is left out does not compile;
/// - `Holes::fill`, which copies the blob into a buffer and fills all holes: a [`Filled`], or a
///   [`FillError`] that names the hole and the number it cannot hold.
///
/// A hole has the type that fits the operand: `u8`, `u16`, `u32` or `u64` for PATCHLET_HOLE with 1,
/// 2, 4 or 8 bytes, `i8` to `i64` for PATCHLET_HOLE_SIGNED. The field is a `u64` or `i64` all the same,
/// so that an address can be given as it is, and one that is too large is an error and not a `as`.
///
/// What is declared here and is not so in the `.S` file does not link. The linker then names a
/// symbol that tells what was expected:
///
/// | undefined symbol | meaning |
/// |---|---|
/// | `patchlet_start_cpu_at_lnog` | `start_cpu` has no place `lnog` |
/// | `patchlet_start_cpu_hole_stack_u32` | it has no hole `stack`, or one of another type |
/// | `patchlet_start_cpu_holes_are_2` | it has fewer or more than 2 holes |
/// | `patchlet_start_cpu_start` | there is no blob `start_cpu` |
#[macro_export]
macro_rules! blobs {
    (
        $(#[$doc:meta])*
        $vis:vis mod $set:ident {$(
            $(#[$meta:meta])*
            $blob:ident {
                $(offsets { $($(#[$offset_meta:meta])* $offset:ident),* $(,)? })?
                $(holes { $($(#[$hole_meta:meta])* $hole:ident: $type:ident),* $(,)? })?
            }
        )*}
    ) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        $vis mod $set {
            $(
                $(#[$meta])*
                pub mod $blob {
                    #[doc = ::core::concat!("The blob `", ::core::stringify!($blob), "`.")]
                    pub static BLOB: $crate::Blob = {
                        unsafe extern "C" {
                            #[link_name = ::core::concat!(
                                "patchlet_", ::core::stringify!($blob), "_start"
                            )]
                            static START: [u8; 0];
                            #[link_name = ::core::concat!(
                                "patchlet_", ::core::stringify!($blob), "_holes_are_",
                                $crate::__count!($($($hole)*)?)
                            )]
                            static END: [u8; 0];
                        }
                        // SAFETY: the names are those that PATCHLET_BLOB and END_PATCHLET_BLOB give
                        // to their labels, and a name that they do not define does not link.
                        unsafe {
                            $crate::Blob::from_labels(::core::stringify!($blob), &START, &END)
                        }
                    };

                    /// The places in the blob. Each function returns an offset in bytes.
                    #[allow(dead_code)] // What a kernel does not need is not linked.
                    pub mod offset {
                        $($(
                            $(#[$offset_meta])*
                            #[doc = ::core::concat!(
                                "Returns the offset of the place `", ::core::stringify!($offset), "`."
                            )]
                            #[must_use]
                            pub fn $offset() -> usize {
                                unsafe extern "C" {
                                    #[link_name = ::core::concat!(
                                        "patchlet_", ::core::stringify!($blob), "_at_",
                                        ::core::stringify!($offset)
                                    )]
                                    static LABEL: [u8; 0];
                                }
                                // SAFETY: the label has no bytes that could be read, and a name
                                // that PATCHLET_OFFSET does not define does not link.
                                super::BLOB.offset_of(unsafe { &LABEL })
                            }
                        )*)?
                    }

                    /// What fills the holes of a copy.
                    #[derive(Clone, Copy, Debug)]
                    pub struct Holes {
                        $($(
                            $(#[$hole_meta])*
                            #[doc = ::core::concat!(
                                "The hole `", ::core::stringify!($hole), "`, for a number of type `",
                                ::core::stringify!($type), "`."
                            )]
                            pub $hole: $crate::__hole_field!($type),
                        )*)?
                    }

                    impl Holes {
                        /// Copies the blob to the start of a buffer, and fills all holes of the copy.
                        ///
                        /// # Errors
                        /// Returns an error if the buffer is shorter than the blob, or if a hole cannot
                        /// hold its number. The buffer is then as it was before.
                        #[allow(dead_code)] // A kernel may need the bytes or the offsets only.
                        pub fn fill<'b>(
                            &self,
                            buffer: &'b mut [u8],
                        ) -> ::core::result::Result<$crate::blob::Filled<'b, Self>, $crate::FillError>
                        {
                            let holes = [$($({
                                unsafe extern "C" {
                                    #[link_name = ::core::concat!(
                                        "patchlet_", ::core::stringify!($blob), "_hole_",
                                        ::core::stringify!($hole), "_", ::core::stringify!($type)
                                    )]
                                    static LABEL: [u8; 0];
                                }
                                $crate::blob::Hole {
                                    name: ::core::stringify!($hole),
                                    // SAFETY: the label has no bytes that could be read, and a name
                                    // that PATCHLET_HOLE does not define does not link.
                                    label: unsafe { &LABEL },
                                    operand: $crate::__hole_operand!($type, self.$hole),
                                }
                            }),*)?];
                            // SAFETY: the blob does not link if it has more holes than these.
                            unsafe { BLOB.fill(&holes, buffer) }
                        }
                    }
                }
            )*
        }
    };
}

/// Expands to the type of the field for a hole.
#[doc(hidden)]
#[macro_export]
macro_rules! __hole_field {
    (u8) => {
        u64
    };
    (u16) => {
        u64
    };
    (u32) => {
        u64
    };
    (u64) => {
        u64
    };
    (i8) => {
        i64
    };
    (i16) => {
        i64
    };
    (i32) => {
        i64
    };
    (i64) => {
        i64
    };
    ($other:ident) => {
        ::core::compile_error!(::core::concat!(
            "a hole has the type u8, u16, u32 or u64 (PATCHLET_HOLE), or i8, i16, i32 or i64 \
             (PATCHLET_HOLE_SIGNED), and not ",
            ::core::stringify!($other)
        ))
    };
}

/// Expands to the [`HoleOperand`] of a hole of a type, with a value.
#[doc(hidden)]
#[macro_export]
macro_rules! __hole_operand {
    (u8, $value:expr) => {
        $crate::blob::HoleOperand::unsigned($value, 1)
    };
    (u16, $value:expr) => {
        $crate::blob::HoleOperand::unsigned($value, 2)
    };
    (u32, $value:expr) => {
        $crate::blob::HoleOperand::unsigned($value, 4)
    };
    (u64, $value:expr) => {
        $crate::blob::HoleOperand::unsigned($value, 8)
    };
    (i8, $value:expr) => {
        $crate::blob::HoleOperand::signed($value, 1)
    };
    (i16, $value:expr) => {
        $crate::blob::HoleOperand::signed($value, 2)
    };
    (i32, $value:expr) => {
        $crate::blob::HoleOperand::signed($value, 4)
    };
    (i64, $value:expr) => {
        $crate::blob::HoleOperand::signed($value, 8)
    };
    ($other:ident, $value:expr) => {
        ::core::unreachable!()
    };
}

/// Expands to the number of names as a literal, which a part of a symbol must be.
#[doc(hidden)]
#[macro_export]
#[rustfmt::skip]
macro_rules! __count {
    () => { "0" };
    ($a:ident) => { "1" };
    ($a:ident $b:ident) => { "2" };
    ($a:ident $b:ident $c:ident) => { "3" };
    ($a:ident $b:ident $c:ident $d:ident) => { "4" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident) => { "5" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident) => { "6" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident) => { "7" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => { "8" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $($i:ident)+) => {
        $crate::__count_on!($($i)+)
    };
}

/// Expands to the number of names and 8.
#[doc(hidden)]
#[macro_export]
#[rustfmt::skip]
macro_rules! __count_on {
    ($a:ident) => { "9" };
    ($a:ident $b:ident) => { "10" };
    ($a:ident $b:ident $c:ident) => { "11" };
    ($a:ident $b:ident $c:ident $d:ident) => { "12" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident) => { "13" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident) => { "14" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident) => { "15" };
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => { "16" };
    ($($more:ident)+) => { ::core::compile_error!("a blob has at most 16 holes") };
}
