//! The trap frame of a #BP on a made-up CPU.
#![allow(unsafe_code)]

use patchlet::live::TrapFrame;

/// The frame of a made-up CPU that trapped.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub ip: usize,
    pub stack: Vec<usize>,
}

// SAFETY: no code returns from this frame. Whether its address is behind an INT3 is what is tested.
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
