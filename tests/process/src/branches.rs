//! Static branches in every place where a compiler puts them: inlined, in generic functions, by
//! keys of this and of other modules, on either side, and in assembly.

patchlet::keys! {
    /// Starts off.
    pub static OFF: off;
    /// Starts on.
    pub static ON: on;
    /// Counts those who want it on, and starts off.
    pub static COUNTED: counted off;
    /// Counts one from the start.
    pub static COUNTED_ON: counted on;
    /// Starts off. Assembly knows it.
    pub static IN_ASSEMBLY as "process_key_off": off;
    /// Starts on. Assembly knows it.
    pub static IN_ASSEMBLY_ON as "process_key_on": on;
    /// No branch has it.
    pub static NOBODYS: off;
}

mod private {
    patchlet::keys! {
        /// A key that no other module can name.
        static HIDDEN: off;
    }

    /// Returns whether the key is on. The function is inlined into other crates.
    #[inline(always)]
    pub fn is_on() -> bool {
        patchlet::branch!(HIDDEN)
    }

    /// Returns the change of the key.
    pub fn to(on: bool) -> patchlet::text::Change<'static> {
        if on { HIDDEN.on() } else { HIDDEN.off() }
    }
}
pub use private::{is_on as hidden_is_on, to as hidden_to};

unsafe extern "C" {
    /// Returns whether `IN_ASSEMBLY` is on.
    pub safe fn asm_is_on() -> usize;
    /// Returns whether `IN_ASSEMBLY` is on, by a branch that jumps if it is off.
    pub safe fn asm_is_on_inverted() -> usize;
    /// Returns whether `IN_ASSEMBLY_ON` is on, by a branch that jumps if it is off.
    pub safe fn asm_starts_on() -> usize;
}

/// Returns whether `OFF` is on; each instance of this generic function has a branch of its own.
#[inline(never)]
pub fn generic<const TAG: usize>() -> (usize, bool) {
    (TAG, patchlet::branch!(crate::branches::OFF))
}

/// Returns all branches, in an order that is the same each time.
#[inline(never)]
pub fn directions() -> Vec<bool> {
    use patchlet::branch;
    let mut all = vec![
        branch!(OFF),
        branch!(likely OFF),
        branch!(unlikely OFF),
        generic::<1>().1,
        generic::<2>().1,
        branch!(ON),
        branch!(likely ON),
        branch!(unlikely ON),
        branch!(COUNTED),
        branch!(COUNTED_ON),
        hidden_is_on(),
    ];
    for times in 0..3 {
        // A loop that LLVM may unroll, so that one branch becomes several.
        all.push(branch!(OFF) ^ (times > 5));
    }
    all.extend([asm_is_on() != 0, asm_is_on_inverted() != 0, asm_starts_on() != 0]);
    all
}

/// Returns what [`directions`] is to return while the keys are in these states.
#[must_use]
pub fn expected(keys: [bool; 7]) -> Vec<bool> {
    let [off, on, counted, counted_on, hidden, asm, asm_on] = keys;
    [
        vec![off; 5],
        vec![on; 3],
        vec![counted, counted_on, hidden],
        vec![off; 3],
        vec![asm, asm, asm_on],
    ]
    .concat()
}
