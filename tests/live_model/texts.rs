//! The texts of members: no two may share a byte.

use patchlet::Error;
use patchlet::live::{Live, Member};

use crate::image::{Image, leak_set, source_of};

/// Modules are loaded right behind each other. Their texts touch then, and share nothing.
#[test]
fn members_whose_texts_touch_share_nothing() {
    let image = Image::new(&[]);
    let text = image.text();
    let middle = text.start + 0x100;
    for swap in [false, true] {
        for (end, shares) in [(middle - 1, false), (middle, false), (middle + 1, true)] {
            let mut members = [text.start..end, middle..text.end]
                .map(|text| Member::new(leak_set(image.sites(), source_of(&[])), text));
            if swap {
                members.reverse();
            }
            let (live, [first, second]) = (Live::new(&[]), &members);
            let mut join = |member| {
                // SAFETY: nobody executes an arena, and the members outlive `live`.
                unsafe { live.join(member, &mut image.second_mapping()) }.map(|_| ())
            };
            assert_eq!(join(first), Ok(()));
            let (start, end, other) = (second.text().start, second.text().end, first.text().start);
            let shared = Err(Error::SharedText { start, end, other });
            assert_eq!(join(second), if shares { shared } else { Ok(()) }, "{swap}");
        }
    }
}
