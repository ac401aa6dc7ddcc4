//! Decodes a chunked body, strictly. spec: RFC 9112, 7.1.

use super::head::is_token;

/// Longest line that gives the size of a chunk, with its extensions, in bytes.
const MAX_SIZE_LINE: usize = 256;
/// Most bytes of trailer fields, which are read and ignored.
const MAX_TRAILERS: usize = 4096;

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Malformed,
    TooLarge,
}

/// Takes the bytes of a chunked body in any pieces.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of the chunk that are still to come.
    left: usize,
    /// Bytes that the body may have beyond those so far.
    room: usize,
    /// Length of the size line or of the trailers so far.
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    Start,
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastLineFeed,
    Done,
}

impl Decoder {
    /// For a body of at most `limit` bytes.
    pub fn new(limit: usize) -> Decoder {
        Decoder {
            state: State::Start,
            left: 0,
            room: limit,
            line: 0,
        }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes `input`, and appends the data to `body`. Returns how many bytes were taken: all, unless the body ends
    /// before.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Fault> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let piece = &input[at..input.len().min(at + self.left)];
                body.extend_from_slice(piece);
                at += piece.len();
                self.left -= piece.len();
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        match (self.state, byte) {
            (State::Start | State::Size, _) if byte.is_ascii_hexdigit() => {
                self.count(MAX_SIZE_LINE)?;
                let digit = (byte as char).to_digit(16).unwrap_or(0) as usize;
                // A size that overflows is larger than any room.
                self.left = self
                    .left
                    .checked_mul(16)
                    .and_then(|size| size.checked_add(digit))
                    .filter(|size| *size <= self.room)
                    .ok_or(Fault::TooLarge)?;
                Ok(State::Size)
            }
            (State::Size, b';') => Ok(State::Extension),
            (State::Size | State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count(MAX_SIZE_LINE)?;
                Ok(State::Extension)
            }
            (State::SizeEnd, b'\n') => {
                self.line = 0;
                self.room -= self.left;
                Ok(if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                })
            }
            (State::DataEnd, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(State::Start),
            (State::TrailerStart, b'\r') => Ok(State::LastLineFeed),
            (State::LastLineFeed, b'\n') => Ok(State::Done),
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                self.count(MAX_TRAILERS)?;
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') | (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count(MAX_TRAILERS)?;
                Ok(State::TrailerValue)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            _ => Err(Fault::Malformed),
        }
    }

    fn count(&mut self, most: usize) -> Result<(), Fault> {
        self.line += 1;
        if self.line > most {
            return Err(Fault::Malformed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and the number of bytes taken, fed whole and in pieces of every size.
    fn decode(input: &[u8], limit: usize) -> Result<(Vec<u8>, usize), Option<Fault>> {
        let whole = fed(input, limit, input.len());
        for size in 1..input.len() {
            assert_eq!(fed(input, limit, size), whole, "{input:?} by {size}");
        }
        whole
    }

    fn fed(input: &[u8], limit: usize, size: usize) -> Result<(Vec<u8>, usize), Option<Fault>> {
        let (mut decoder, mut body, mut taken) = (Decoder::new(limit), Vec::new(), 0);
        for piece in input.chunks(size.max(1)) {
            taken += decoder.decode(piece, &mut body).map_err(Some)?;
            if decoder.is_done() {
                return Ok((body, taken));
            }
        }
        Err(None)
    }

    #[test]
    fn chunks_are_put_together_and_what_follows_is_left() {
        for (input, body, rest) in [
            ("0\r\n\r\n", "", 0),
            ("3\r\nabc\r\n0\r\n\r\nGET", "abc", 3),
            (
                "3\r\nabc\r\nA;x=\"y\";z\r\n0123456789\r\n000\r\n\r\n",
                "abc0123456789",
                0,
            ),
            ("1\r\na\r\n0\r\nExpires: now\r\nX: y\r\n\r\n\r\n", "a", 2),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0),
        ] {
            let (decoded, taken) = decode(input.as_bytes(), 100).unwrap();
            assert_eq!(decoded, body.as_bytes(), "{input:?}");
            assert_eq!(taken, input.len() - rest, "{input:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for input in [
            "\r\n",
            ";x\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc",
            "-1\r\n",
            "+3\r\nabc",
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3;\u{1}\r\nabc\r\n0\r\n\r\n",
            "0\r\n\r0",
            "0\r\n folded: x\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "0\r\nX\r\n\r\n",
            // The beginning of another request.
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nX: \u{0}\r\n\r\n",
            "3\rabc",
        ] {
            assert_eq!(
                decode(input.as_bytes(), 100),
                Err(Some(Fault::Malformed)),
                "{input:?}"
            );
        }
        let long = format!("1;{}\r\n", "x".repeat(MAX_SIZE_LINE));
        assert_eq!(fed(long.as_bytes(), 100, 7), Err(Some(Fault::Malformed)));
        let long = format!("0\r\n{}", "X: y\r\n".repeat(MAX_TRAILERS));
        assert_eq!(fed(long.as_bytes(), 100, 7), Err(Some(Fault::Malformed)));
        let zeros = "0".repeat(MAX_SIZE_LINE + 1);
        assert_eq!(fed(zeros.as_bytes(), 100, 7), Err(Some(Fault::Malformed)));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_comes() {
        assert_eq!(decode(b"5\r\n", 4), Err(Some(Fault::TooLarge)));
        assert_eq!(
            decode(b"ffffffffffffffffffff\r\n", 100),
            Err(Some(Fault::TooLarge))
        );
        assert_eq!(decode(b"3\r\nabc\r\n2\r\n", 4), Err(Some(Fault::TooLarge)));
        assert_eq!(
            decode(b"4\r\nabcd\r\n0\r\n\r\n", 4),
            Ok((b"abcd".to_vec(), 14))
        );
    }

    #[test]
    fn a_body_that_stops_is_not_done() {
        for input in [
            "",
            "3",
            "3\r\nab",
            "3\r\nabc\r\n",
            "3\r\nabc\r\n0\r\n",
            "0\r\nX",
        ] {
            assert_eq!(decode(input.as_bytes(), 100), Err(None), "{input:?}");
        }
    }
}
