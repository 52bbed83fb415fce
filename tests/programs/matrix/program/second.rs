//! The other crate of the program: an ops table and patchlets of its own, and
//! sites in every place a compiler puts them. Each place has an op of its own, so
//! that a missing record shows which place lost it.
#![no_std]

patchlet::patchlets! {
    /// The patchlets of `own.S`.
    pub mod own {
        swap_bytes,
        like_native,
        long,
    }
}

patchlet::ops! {
    /// One op per place.
    pub mod places as "matrix_places" {
        place {
            /// Inlined into several functions of both crates.
            inlined: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In each instance of a generic function.
            generic: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In a plain function of this crate.
            plain: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In a method that is called through a trait object.
            method: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In a closure.
            closure: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In two functions with the same instructions (`--icf`).
            twin: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In a function that C code calls.
            from_c: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// Of 16 bytes, written by hand.
            by_hand: callee_save fn(value: usize) -> usize = patchlet own::long;
            /// In `own.S`, a call.
            asm_call: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In `own.S`, a jump.
            asm_jump: callee_save fn(value: usize) -> usize = patchlet own::like_native;
            /// In an exported function of this crate that nobody calls.
            dead_rust: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// In an exported function of `own.S` that nobody calls.
            dead_asm: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// Nowhere.
            unused: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
        }
    }
}

/// A site in whatever function this is inlined into.
#[inline(always)]
pub fn inlined(value: usize) -> usize {
    places::inlined(value)
}

/// A site in each instance, and that of [`inlined`].
#[inline(never)]
pub fn generic<const TAG: usize>(value: usize) -> usize {
    places::generic(value ^ TAG) ^ inlined(TAG)
}

/// Compiled here and maybe inlined elsewhere.
pub fn plain(value: usize) -> usize {
    places::plain(value)
}

/// What the trait object is of.
pub trait Method {
    /// A site, in one implementation.
    fn call(&self, value: usize) -> usize;
}

/// The implementation with the site.
pub struct Site;

impl Method for Site {
    #[inline(never)]
    fn call(&self, value: usize) -> usize {
        places::method(value)
    }
}

/// The one without.
pub struct NoSite;

impl Method for NoSite {
    #[inline(never)]
    fn call(&self, value: usize) -> usize {
        !value
    }
}

/// The same instructions as [`twin_b`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn matrix_twin_a(value: usize) -> usize {
    places::twin(value)
}

/// The same instructions as [`twin_a`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn matrix_twin_b(value: usize) -> usize {
    places::twin(value)
}

/// Nobody calls this. Exported, so that LTO keeps it and it is for the linker to
/// drop, and its record with it.
#[unsafe(no_mangle)]
pub extern "C" fn matrix_dead(value: usize) -> usize {
    places::dead_rust(value) ^ 0x0bad_0bad
}
