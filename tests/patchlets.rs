//! Checks the native set that is linked into this test: its names, order and bytes must be those of
//! the table, for the width of the test.

mod support {
    pub mod table;
}

use support::table::{Width, native};

const WIDTH: Width = if cfg!(target_arch = "x86_64") { Width::Bits64 } else { Width::Bits32 };

#[test]
fn the_set_is_the_table() {
    let expected = native(WIDTH);
    let names: Vec<_> = patchlet::native::ALL.iter().map(|patchlet| patchlet.name()).collect();
    assert_eq!(names, expected.iter().map(|row| row.name).collect::<Vec<_>>());
    for (patchlet, row) in patchlet::native::ALL.iter().zip(expected) {
        let name = patchlet.name();
        assert_eq!(patchlet.bytes(), row.bytes, "{WIDTH} `{name}` is not `{}`", row.assembly);
    }
}

#[test]
fn a_name_finds_its_patchlet() {
    for row in native(WIDTH) {
        let patchlet = patchlet::native::find(row.name).expect(row.name);
        assert_eq!((patchlet.name(), patchlet.bytes()), (row.name, &row.bytes[..]));
    }
}

#[test]
fn any_other_name_finds_nothing() {
    let other_width = match WIDTH {
        Width::Bits64 => "iret",
        Width::Bits32 => "swapgs",
    };
    for name in ["", "irq", "irq_disabled", "IRQ_DISABLE", "irq.irq_disable", other_width] {
        assert!(patchlet::native::find(name).is_none(), "`{name}` was found");
    }
}

#[test]
fn debug_shows_name_and_hex() {
    assert_eq!(format!("{:?}", patchlet::native::irq_disable), "irq_disable: fa");
    assert_eq!(format!("{:?}", patchlet::native::read_cr3), "read_cr3: 0f 20 d8");
}

#[test]
fn a_patchlet_lies_apart_from_its_native_function() {
    for patchlet in patchlet::native::ALL {
        let function = patchlet.native() as usize;
        let bytes = patchlet.bytes().as_ptr_range();
        assert!(
            !(bytes.start as usize..bytes.end as usize).contains(&function),
            "the native function of {patchlet:?} is the data itself"
        );
    }
}

/// Checks that this program, which uses no op, has an empty table of sites.
#[test]
fn a_program_without_a_single_site_links() {
    let sites = patchlet::Sites::linked();
    assert_eq!((sites.size(), sites.records().len()), (0, 0));
}
