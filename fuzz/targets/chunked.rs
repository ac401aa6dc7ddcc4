//! A chunked body and what follows it. The input is the bytes.
//!
//! In whatever pieces they come, the decoder finds the body that the reference finds, and its end; and a body comes out
//! again as it was put in.

use super::pieces;
use super::reference::{self, No, Size};

use brokerlet::http::gate::chunked::{Decoder, Fault};

const LIMIT: usize = 64 * 1024;

pub fn run(bytes: &[u8]) {
    let whole = decode(std::iter::once(bytes));
    for sizes in [&[1][..], &[2], &[7], &[1, 100, 3]] {
        let in_pieces = decode(pieces(bytes, sizes));
        match (&in_pieces, &whole) {
            // Which fault is seen first depends on nothing either.
            (Err(one), Err(other)) => assert_eq!(one, other),
            _ => assert_eq!(in_pieces, whole, "in pieces of {sizes:?}"),
        }
    }
    let mut size = Size::default();
    let wanted = reference::chunked(bytes, &mut size);
    match (&whole, &wanted) {
        (Ok(Some(found)), Ok(wanted)) => assert_eq!(found, wanted),
        (Ok(None), Err(No::Incomplete)) | (Err(Fault::Malformed), Err(No::Malformed)) => {}
        // It does not wait for the rest of what is too much or wrong already; that it waits for the rest of everything
        // else is seen where it comes in pieces.
        (Err(Fault::TooLarge), _) | (Err(Fault::Malformed), Err(No::Incomplete)) => {}
        (Err(Fault::Malformed), Ok(_)) => {
            assert!(size.chunk_line > 256 || size.trailers > 4096, "{wanted:?}");
        }
        _ => panic!("{whole:?}, and the reference says {wanted:?}"),
    }
    there_and_back(bytes);
}

type Decoded = Result<Option<(Vec<u8>, usize)>, Fault>;

/// The body and the number of bytes that it took, if it is whole.
fn decode<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Decoded {
    let (mut decoder, mut body, mut taken) = (Decoder::new(LIMIT), Vec::new(), 0);
    for piece in pieces {
        let count = decoder.decode(piece, &mut body)?;
        assert!(body.len() <= LIMIT && count <= piece.len());
        taken += count;
        if decoder.is_done() {
            return Ok(Some((body, taken)));
        }
        assert_eq!(count, piece.len());
    }
    Ok(None)
}

/// The input as a body, in chunks whose sizes it chooses itself.
fn there_and_back(bytes: &[u8]) {
    let body = &bytes[..bytes.len().min(LIMIT)];
    let sizes: Vec<usize> = bytes.iter().map(|byte| usize::from(*byte) + 1).collect();
    let mut encoded = Vec::new();
    for chunk in pieces(body, &sizes) {
        encoded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n\r\n");
    let length = encoded.len();
    encoded.extend_from_slice(bytes);
    assert_eq!(
        decode(std::iter::once(&*encoded)),
        Ok(Some((body.to_vec(), length)))
    );
}
