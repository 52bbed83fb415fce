//! What a site may hold, where one of the things that it might be cannot be composed at all.

use patchlet::Error;
use patchlet::ops::Target;

use crate::image::{Image, Site, call};
use crate::platforms::one_cpu;

/// A patchlet that has no room in the site is nothing that the site can hold. Zeros, which is what
/// memory has before anything is loaded into it, are not taken for it.
#[test]
fn zeros_are_no_patchlet_that_does_not_fit() {
    for capacity in [6, 9] {
        let mut image = Image::new(&[Some(&[0xfa; 10])]);
        image.site(Site { capacity, ..call(0x300, 0) });
        image.set(0, Target::NOP);
        image.arena.write(0x300, &vec![0; capacity.into()]);
        let before = image.bytes();
        let error = one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap_err();
        assert!(matches!(error, Error::OldBytes { name: "op0", .. }), "{error}");
        assert!(image.bytes() == before);
    }
}
