//! Two entries that are wrong, as they once were in a public kernel tree: this
//! `restore_fl` pushes RAX, this `read_cr3` writes CR3. Nothing complains.
pub const RESTORE_FL: [u8; 2] = [0x50, 0x9d]; // push %rdi; popfq
pub const READ_CR3: [u8; 3] = [0x0f, 0x22, 0xd8]; // mov %cr3, %rax

fn main() {
    assert_eq!(RESTORE_FL.len() + READ_CR3.len(), 5);
}
