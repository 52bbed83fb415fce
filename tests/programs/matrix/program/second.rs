//! The other crate of the program. It has an ops table and patchlets of its own, and sites in every
//! place where a compiler puts them. Each place has an op of its own, so that a missing record
//! shows which place lost it.
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

/// Executes a site, which is part of every function that this one is inlined into.
#[inline(always)]
pub fn inlined(value: usize) -> usize {
    places::inlined(value)
}

/// Executes a site, of which each instance has its own, and that of [`inlined`].
#[inline(never)]
pub fn generic<const TAG: usize>(value: usize) -> usize {
    places::generic(value ^ TAG) ^ inlined(TAG)
}

/// Executes a site. The function is compiled in this crate and may be inlined in another.
pub fn plain(value: usize) -> usize {
    places::plain(value)
}

/// What the trait object is of.
pub trait Method {
    /// Executes a site, in one of the implementations.
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

/// Executes the same instructions as [`twin_b`], so that a linker may fold the two.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn matrix_twin_a(value: usize) -> usize {
    places::twin(value)
}

/// Executes the same instructions as [`twin_a`], so that a linker may fold the two.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn matrix_twin_b(value: usize) -> usize {
    places::twin(value)
}

/// Executes a site, but no code calls this function. It is exported, so that LTO keeps it and the
/// linker has to drop it together with the record of its site.
#[unsafe(no_mangle)]
pub extern "C" fn matrix_dead(value: usize) -> usize {
    places::dead_rust(value) ^ 0x0bad_0bad
}
