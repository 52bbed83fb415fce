//! The built-in set, as linked into this very test.
#[test]
fn t() {
    for p in patchlet::native::ALL {
        println!("{p:?}");
    }
    assert_eq!(patchlet::native::irq_disable.bytes(), [0xfa]);
}
