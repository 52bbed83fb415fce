//! The CPU models of QEMU. `models.txt` has them as registers of CPUID; `make cpu-models` asks
//! QEMU for them and writes it.

use super::registers::CpuidValues;
use crate::cpu::CpuidRegister;

const MODELS: &str = include_str!("models.txt");

/// The rows that are no models: what QEMU's own emulation has, in 64-bit and in 32-bit programs.
pub(super) const TCG: [&str; 2] = ["tcg", "tcg32"];

/// Returns the rows behind the comment: that of the columns, then one for each model.
fn rows() -> impl Iterator<Item = &'static str> {
    MODELS.lines().filter(|line| !line.starts_with('#'))
}

/// Returns the names of all models.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let names = rows().skip(1).filter_map(|row| row.split(' ').next());
    names.filter(|name| !TCG.contains(name))
}

/// Returns what CPUID says on a model, or `None` if there is none of this name. Case does not
/// count.
pub(super) fn registers_of(model: &str) -> Option<CpuidValues> {
    let mut rows = rows();
    let columns = rows.next()?.split(' ').skip(2);
    let is_meant =
        |row: &&str| row.split(' ').next().is_some_and(|name| name.eq_ignore_ascii_case(model));
    let row = rows.find(is_meant)?;
    let mut cells = row.split(' ').skip(1);
    let mut registers = CpuidValues::of_vendor(cells.next()?);
    for (column, cell) in columns.zip(cells) {
        let (leaf, sub_leaf, register) = place(column)?;
        registers.put(leaf, sub_leaf, register, u32::from_str_radix(cell, 16).ok()?);
    }
    Some(registers)
}

/// Returns the register that a column is of: `7/0/ebx`.
fn place(column: &str) -> Option<(u32, u32, CpuidRegister)> {
    let mut parts = column.split('/');
    let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
    let (leaf, sub_leaf) = (number()?, number()?);
    let register = match parts.next()? {
        "eax" => CpuidRegister::Eax,
        "ebx" => CpuidRegister::Ebx,
        "ecx" => CpuidRegister::Ecx,
        "edx" => CpuidRegister::Edx,
        _ => return None,
    };
    Some((leaf, sub_leaf, register))
}

#[cfg(test)]
mod tests {
    use super::{TCG, names, registers_of, rows};

    /// Checks that each row can be read, and has as many cells as there are columns.
    #[test]
    fn every_row_is_whole() {
        let columns = rows().next().map(|row| row.split(' ').count());
        let mut models = 0;
        for name in names().chain(TCG) {
            assert!(registers_of(name).is_some(), "{name}");
            models += 1;
        }
        assert!(rows().all(|row| Some(row.split(' ').count()) == columns));
        assert!(models > 100, "{models}");
    }
}
