//! Ops of any signature: a structure by value, and more arguments than registers hold. They are
//! executed in every state of their sites, as a kernel uses them: without floats.

use core::hint::black_box;

use crate::own::ops;

/// More than registers hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    words: [usize; 5],
}

const BLOCK: Block = Block { words: [1, 2, 3, 4, 5] };

/// Adds the arguments to the words, and `more` to the last one.
fn add(mut block: Block, arguments: [usize; 7], more: usize) -> Block {
    for (at, argument) in arguments.into_iter().enumerate() {
        block.words[at % 5] = block.words[at % 5] * 10 + argument;
    }
    block.words[4] += more;
    block
}

/// The op `any.mix`, which adds `MORE` to the last word: its native function with 0, that of the
/// made-up hypervisor with 1.
pub extern "C" fn mix<const MORE: usize>(
    block: Block,
    a: u8,
    b: i16,
    c: u32,
    d: usize,
    e: usize,
    f: usize,
    g: i32,
) -> Block {
    add(block, [a.into(), b as usize, c as usize, d, e, f, g as usize], MORE)
}

/// The native function of the op `any.largest`.
pub extern "C" fn largest(block: &Block, _how: u64) -> usize {
    block.words.into_iter().max().unwrap_or(0)
}

/// The same op of the made-up hypervisor.
pub extern "C" fn largest_as_guest(block: &Block, how: u64) -> usize {
    largest(block, how) + 1
}

/// Executes both ops. `more` is what is added to the results, and `returns_zero` says that the
/// second one returns 0.
pub fn check(more: usize, returns_zero: bool) {
    let mixed = ops::mix(black_box(BLOCK), 1, 2, 3, black_box(4), 5, 6, black_box(7));
    assert_eq!(mixed, Block { words: [116, 227, 33, 44, 55 + more] });
    let largest = ops::largest(&mixed, black_box(1 << 40));
    assert_eq!(largest, if returns_zero { 0 } else { 227 + more });
}
