//! The frame of a #BP, of a CPU that a test makes up.
#![allow(unsafe_code)]

use patchlet::live::TrapFrame;

/// A CPU that trapped.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub ip: usize,
    pub stack: Vec<usize>,
}

// SAFETY: nobody returns from it; that it is behind an INT3 is what is tested.
unsafe impl TrapFrame for Frame {
    fn ip(&self) -> usize {
        self.ip
    }

    fn set_ip(&mut self, ip: usize) {
        self.ip = ip;
    }

    fn push(&mut self, value: usize) {
        self.stack.push(value);
    }
}
