//! Bytes that were read from a socket and not used yet.

use std::io::{self, Read};

#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// `space`: in bytes.
    pub fn new(space: usize) -> Buffer {
        Buffer {
            bytes: vec![0; space],
            start: 0,
            end: 0,
        }
    }

    /// The bytes that were read and not used yet.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads once, until at most `most` bytes are filled. Returns how many bytes came; 0 at the end of the stream.
    pub fn read(&mut self, from: &mut impl Read, most: usize) -> io::Result<usize> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            let space = (self.bytes.len() * 2).min(most).max(self.end + 1);
            self.bytes.resize(space, 0);
        }
        let space = self.bytes.len().min(most.max(self.end + 1));
        let count = from.read(&mut self.bytes[self.end..space])?;
        self.end += count;
        Ok(count)
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Releases the memory beyond `space`, if the buffer is empty.
    pub fn shrink(&mut self, space: usize) {
        if self.is_empty() && self.bytes.len() > space {
            self.bytes.truncate(space);
            self.bytes.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_within_the_limit() {
        let input: Vec<u8> = (0..=255).collect();
        let mut from = &input[..];
        let mut buffer = Buffer::new(8);
        let mut out = Vec::new();
        while buffer.read(&mut from, 32).unwrap() > 0 {
            assert!(buffer.filled().len() <= 32);
            if buffer.filled().len() >= 20 {
                out.extend_from_slice(&buffer.filled()[..15]);
                buffer.consume(15);
            }
        }
        out.extend_from_slice(buffer.filled());
        assert_eq!(out, input);
        buffer.consume(1);
        buffer.consume(usize::MAX);
        assert!(buffer.is_empty());
        buffer.shrink(8);
        assert_eq!(buffer.bytes.len(), 8);
    }
}
