//! A hex table of which each element is used by a constant index, as a patch
//! function does that knows its op.
pub struct Natives {
    read_cr3: [u8; 3],
    sysret: [u8; 6],
}

#[cfg_attr(exported, unsafe(no_mangle))]
#[cfg_attr(used, used)]
pub static NATIVES: Natives =
    Natives { read_cr3: [0x0f, 0x20, 0xd8], sysret: [0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07] };

#[inline(never)]
fn patch(op: u32, to: &mut [u8]) -> usize {
    let bytes: &[u8] = match op {
        0 => &NATIVES.read_cr3,
        _ => &NATIVES.sysret,
    };
    // Byte by byte, with an index that is constant once the loop is unrolled.
    if op == 0 {
        (to[0], to[1], to[2]) = (NATIVES.read_cr3[0], NATIVES.read_cr3[1], NATIVES.read_cr3[2]);
    } else {
        let from = &NATIVES.sysret;
        (to[0], to[1], to[2]) = (from[0], from[1], from[2]);
        (to[3], to[4], to[5]) = (from[3], from[4], from[5]);
    }
    bytes.len()
}

fn main() {
    let mut to = [0; 8];
    let ops = std::env::args().count() as u32 - 1;
    let len = patch(ops, &mut to);
    assert_eq!(to[..len], [0x0f, 0x20, 0xd8]);
}
