//! Random bytes from the system's generator.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::io;

/// Fills `bytes`, waiting for the generator to be ready if the system has just started.
///
/// On Linux the system is asked directly: a static binary in an empty folder has no `/dev/urandom` to fall back to.
#[cfg(target_os = "linux")]
pub fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    use rustix::io::Errno;
    use rustix::rand::{GetRandomFlags, getrandom};
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(count) => bytes = &mut bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fills `bytes`.
#[cfg(not(target_os = "linux"))]
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::other)
}

/// 128 random bits in 22 letters, digits, `-` and `_`: enough to be unique, and not to be guessed.
pub fn word() -> io::Result<String> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_drawn() {
        let mut bytes = [0; 1000];
        fill(&mut bytes).unwrap();
        for part in bytes.chunks(100) {
            assert!(part.iter().any(|byte| *byte != 0));
        }
        assert_eq!(word().unwrap().len(), 22);
        assert_ne!(word().unwrap(), word().unwrap());
    }
}
