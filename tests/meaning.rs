//! Compares the table of the native set with an encoder and a decoder that are independent of the
//! assembler, so that a typing error in the table or in a `.S` file is noticed. Two errors of a
//! public kernel tree are tried.

mod support {
    pub mod meaning;
    pub mod table;
}

use support::meaning::{check_decoded, check_encoded, hex};
use support::table::{Expected, Width, native};

#[test]
fn every_row_means_what_it_says() {
    for width in [Width::Bits64, Width::Bits32] {
        for row in native(width) {
            assert_eq!(check_encoded(width, &row, &row.bytes), Ok(()));
            assert_eq!(check_decoded(width, &row, &row.bytes), Ok(()));
        }
    }
}

/// Checks that both refuse `bytes`, with the name of the patchlet and the meaning of the bytes.
fn refused(name: &str, bytes: &[u8], meaning: &str) {
    let row: Expected = native(Width::Bits64).into_iter().find(|row| row.name == name).unwrap();
    let (wrong, right) = (hex(bytes), hex(&row.bytes));
    assert_eq!(
        check_encoded(Width::Bits64, &row, bytes),
        Err(format!(
            "64-bit `{name}`: the bytes {wrong} mean `{meaning}`; its instructions encode to {right}"
        ))
    );
    assert_eq!(
        check_decoded(Width::Bits64, &row, bytes),
        Err(format!("64-bit `{name}`: the bytes {wrong} mean `{meaning}`, not `{}`", row.assembly))
    );
}

#[test]
fn a_restore_fl_that_pushes_rax_is_refused() {
    refused("restore_fl", &[0x50, 0x9d], "pushq %rax; popfq");
}

#[test]
fn a_read_cr3_that_writes_cr3_is_refused() {
    refused("read_cr3", &[0x0f, 0x22, 0xd8], "movq %rax,%cr3");
}

#[test]
fn a_truncated_instruction_is_refused() {
    refused("read_cr2", &[0x0f, 0x20], "(bad)");
}
