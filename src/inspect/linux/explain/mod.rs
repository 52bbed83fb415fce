//! Compares the text of a running kernel with what it should be, and puts down every byte that
//! differs from the file to its cause.

mod allowed;
mod choose;
mod compare;
mod infer;
mod moved;

use super::kernel::LinuxKernel;
use super::state::State;
use super::text::Text;
use crate::insn::Width;
use crate::inspect::error::FileError;
use crate::inspect::explain::{Explanation, RawAddress, locate, read};

use choose::expected;
pub(super) use choose::usual;
use compare::Comparison;
use infer::infer;
pub(super) use moved::move_text;

/// Explains the text of a kernel in a dump, given as bytes. `raw` is the address of the first byte
/// of a dump without a header. `all` lists proven ranges, too.
///
/// # Errors
/// Returns an error if the dump cannot be read, if the kernel is not in it, or if nothing of its
/// text can be compared.
pub fn explain(
    kernel: &LinuxKernel<'_>,
    dump: &[u8],
    raw: Option<RawAddress>,
    all: bool,
) -> Result<Explanation, FileError> {
    let memory = read(dump, raw)?;
    let alignment = match kernel.image.width() {
        Width::Bits64 => 0x20_0000,
        Width::Bits32 => 0x2000,
    };
    let located = locate(&kernel.image, &memory, alignment)?;
    let mut state = State::new(kernel, &located);
    let mut moved = Text::new(&kernel.image);
    move_text(kernel, located.slide, &mut moved);
    infer(kernel, &mut state, &located, &moved);
    let text = expected(kernel, &state, &located, &moved);
    let explanation = Comparison::new(kernel, &located, &state, &text, all).run();
    if explanation.compared == 0 {
        return Err(FileError::new("the dump has nothing of its text that can be executed"));
    }
    Ok(explanation)
}
