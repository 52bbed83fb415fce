//! Text on standard output: words and hexadecimal numbers. `core::fmt` is not used, so that the
//! program stays small.

use crate::system;

/// Lines that are written when it is full, and by [`flush`](Self::flush).
pub struct Out {
    buffer: [u8; 1024],
    len: usize,
}

impl Out {
    pub fn new() -> Self {
        Self { buffer: [0; 1024], len: 0 }
    }

    fn byte(&mut self, byte: u8) {
        if self.len == self.buffer.len() {
            self.flush();
        }
        self.buffer[self.len] = byte;
        self.len += 1;
    }

    fn digit(&mut self, digit: usize) {
        self.byte(b"0123456789abcdef"[digit & 15]);
    }

    /// Appends a word and a space.
    pub fn word(&mut self, word: &str) -> &mut Self {
        for byte in word.bytes() {
            self.byte(byte);
        }
        self.byte(b' ');
        self
    }

    /// Appends a hexadecimal number and a space.
    pub fn number(&mut self, number: usize) -> &mut Self {
        for nibble in (0..usize::BITS / 4).rev() {
            self.digit(number >> (4 * nibble));
        }
        self.byte(b' ');
        self
    }

    /// Bytes in hex and a space.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            self.digit(usize::from(byte >> 4));
            self.digit(usize::from(*byte));
        }
        self.byte(b' ');
        self
    }

    /// Ends a line and writes it.
    pub fn line(&mut self) {
        self.byte(b'\n');
    }

    pub fn flush(&mut self) {
        system::write(&self.buffer[..self.len]);
        self.len = 0;
    }
}
