//! Patchlets: a pair of labels in `asm/*.S` becomes a name and a slice of bytes. This file
//! knows neither sites nor CPUs.
//!
//! Unsafe code here reads the bytes between two labels whose addresses the linker chooses.
//! It is sound because the build script checked the object (`src/assemble/check.rs`):
//! the start label stands before the end label, in the same read-only section.
#![allow(unsafe_code)]

use core::fmt;

/// A native instruction sequence kept as data, written as real assembly between
/// two global labels.
///
/// Only [`patchlets!`](crate::patchlets) makes values of this type.
pub struct Patchlet {
    name: &'static str,
    start: &'static [u8; 0],
    end: &'static [u8; 0],
    native: unsafe extern "C" fn(),
}

impl Patchlet {
    /// Makes a patchlet of its two labels and of the native function from the same lines.
    ///
    /// # Safety
    /// - `start` and `end` are the two labels that `PATCHLET(name)` and
    ///   `END_PATCHLET(name)` of `patchlet.h` define, `native` is the function
    ///   they define;
    /// - nothing else declares these symbols. (When one of them was also declared as a `u8`,
    ///   the compiler folded `start == end` to a wrong constant under fat LTO.)
    #[doc(hidden)]
    pub const unsafe fn from_labels(
        name: &'static str,
        start: &'static [u8; 0],
        end: &'static [u8; 0],
        native: unsafe extern "C" fn(),
    ) -> Self {
        Self { name, start, end, native }
    }

    /// Returns the patchlet's name: `<name>` of its label `patchlet_<name>_start`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the bytes of the patchlet's instructions.
    #[must_use]
    pub fn bytes(&self) -> &'static [u8] {
        between(self.start, self.end)
    }

    /// Returns the native function: the same instructions, followed by a return unless they
    /// leave the kernel themselves, as `iret` does. The slot of an op holds it by default.
    #[must_use]
    pub const fn native(&self) -> unsafe extern "C" fn() {
        self.native
    }
}

/// Returns the bytes between two labels. This is the only function that makes a slice of them.
pub(crate) fn between(start: &'static [u8; 0], end: &'static [u8; 0]) -> &'static [u8] {
    // The labels are zero-sized, so a pointer to one has provenance over no byte. Exposing
    // the provenance and making the pointer anew from the address gives a pointer that may
    // read the patchlet.
    let address = start.as_ptr().expose_provenance();
    let len = end.as_ptr().addr().saturating_sub(address);
    // SAFETY: by the contracts of `Patchlet::from_labels` and `Blob::from_labels` these are the labels
    // of one PATCHLET or PATCHLET_BLOB.
    // The build script has checked in the object that the start comes before the end and that
    // both lie in one section. A linker moves a section as a whole, and this one is read-only.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address), len) }
}

/// Writes the name and the bytes in hex, `irq_disable: fa`.
impl fmt::Debug for Patchlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        for byte in self.bytes() {
            write!(f, " {byte:02x}")?;
        }
        Ok(())
    }
}

/// Declares the patchlets of a `.S` file to Rust: a static for each, and `ALL`,
/// the table of the whole set in this order.
///
/// The built-in set ([`native`]) is declared this way, and so is a kernel's own:
///
/// ```no_run
/// patchlet::patchlets! {
///     /// Instructions this kernel has beyond the built-in set.
///     pub mod own {
///         invlpg,
///         rdtsc,
///     }
/// }
/// # fn main() {
/// assert_eq!(own::rdtsc.bytes(), [0x0f, 0x31]);
/// # }
/// ```
#[macro_export]
macro_rules! patchlets {
    (
        $(#[$doc:meta])*
        $vis:vis mod $set:ident { $($(#[$meta:meta])* $name:ident),* $(,)? }
    ) => {
        $(#[$doc])*
        #[allow(non_upper_case_globals, unsafe_code)]
        $vis mod $set {
            $(
                $(#[$meta])*
                #[doc = ::core::concat!("The patchlet `", ::core::stringify!($name), "`.")]
                pub static $name: $crate::Patchlet = {
                    unsafe extern "C" {
                        #[link_name = ::core::concat!("patchlet_", ::core::stringify!($name), "_start")]
                        static START: [u8; 0];
                        #[link_name = ::core::concat!("patchlet_", ::core::stringify!($name), "_end")]
                        static END: [u8; 0];
                        #[link_name = ::core::concat!("patchlet_native_", ::core::stringify!($name))]
                        fn native();
                    }
                    // SAFETY: the names are those that PATCHLET and END_PATCHLET give to
                    // their labels, and a name that no PATCHLET defines does not link.
                    unsafe {
                        $crate::Patchlet::from_labels(::core::stringify!($name), &START, &END, native)
                    }
                };
            )*

            /// All patchlets of the set, in the order of the declaration.
            pub static ALL: &[&$crate::Patchlet] = &[$($(#[$meta])* &$name),*];

            /// Returns the patchlet of this name, or `None` if the set has none.
            #[must_use]
            #[allow(dead_code)] // A kernel may name its patchlets by path only.
            pub fn find(name: &str) -> ::core::option::Option<&'static $crate::Patchlet> {
                ALL.iter().copied().find(|patchlet| patchlet.name() == name)
            }
        }
    };
}

patchlets! {
    /// The native set, `asm/patch_64.S` and `asm/patch_32.S`, in their order.
    pub mod native {
        irq_disable,
        irq_enable,
        save_fl,
        restore_fl,
        read_cr2,
        read_cr3,
        write_cr3,
        #[cfg(target_arch = "x86_64")]
        wbinvd,
        #[cfg(target_arch = "x86_64")]
        swapgs,
        #[cfg(target_arch = "x86_64")]
        usergs_sysret64,
        #[cfg(target_arch = "x86")]
        iret,
        #[cfg(target_arch = "x86_64")]
        ident_64,
        queued_spin_unlock,
        vcpu_is_preempted,
        ud2,
        safe_halt,
        halt,
    }
}

patchlets! {
    /// The ready-made set by CPU feature, `asm/cpu_64.S` and `asm/cpu_32.S`, in their order. Only
    /// those of the features that a CPU has can be executed on it: `cpu_ops` says which.
    pub mod cpu_native {
        cpu_stac,
        cpu_clac,
        #[cfg(target_arch = "x86_64")]
        cpu_rdfsbase,
        #[cfg(target_arch = "x86_64")]
        cpu_wrfsbase,
        #[cfg(target_arch = "x86_64")]
        cpu_rdgsbase,
        #[cfg(target_arch = "x86_64")]
        cpu_wrgsbase,
        #[cfg(target_arch = "x86")]
        cpu_no_time_stamp,
        #[cfg(target_arch = "x86")]
        cpu_rdtsc_cpuid,
        cpu_rdtsc_mfence,
        cpu_rdtsc_lfence,
        cpu_rdtscp,
        cpu_vmcall,
        cpu_vmmcall,
        #[cfg(target_arch = "x86")]
        cpu_fnsave,
        cpu_fxsave,
        cpu_xsave,
        cpu_xsaveopt,
        cpu_xsavec,
        cpu_xsaves,
        #[cfg(target_arch = "x86")]
        cpu_frstor,
        cpu_fxrstor,
        cpu_xrstor,
        cpu_xrstors,
        #[cfg(target_arch = "x86")]
        cpu_wbinvd,
        cpu_clflush,
        cpu_clflushopt,
    }
}
