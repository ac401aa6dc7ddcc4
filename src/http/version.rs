//! `X-Broker-API-Version`. spec: API Version Header.

use crate::broker::error::Error;

pub const HEADER: &str = "X-Broker-API-Version";
/// The oldest version that is accepted. Later ones only add to it.
const OLDEST: (u32, u32) = (2, 10);

/// 400 if the header is missing or malformed, 412 if the version is not supported.
pub fn check(header: Option<&str>) -> Result<(), Error> {
    let Some(text) = header.filter(|text| !text.is_empty()) else {
        return Err(Error::bad_request(format!(
            "The header {HEADER} is missing; wanted a version such as 2.17."
        )));
    };
    let Some((major, minor)) = parse(text) else {
        return Err(Error::bad_request(format!(
            "{HEADER}: found {text:?}, wanted MAJOR.MINOR as in 2.17."
        )));
    };
    if major != OLDEST.0 || minor < OLDEST.1 {
        return Err(Error::new(
            412,
            format!(
                "{HEADER}: found {text}, but this broker accepts 2.10 and later versions of 2."
            ),
        ));
    }
    Ok(())
}

fn parse(text: &str) -> Option<(u32, u32)> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let (major, minor) = text.split_once('.')?;
    Some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (header, status) in [
            ("2.10", None),
            ("2.13", None),
            ("2.17", None),
            ("2.100", None),
            ("2.9", Some(412)),
            ("2.1", Some(412)),
            ("2.0", Some(412)),
            ("1.17", Some(412)),
            ("3.0", Some(412)),
            ("", Some(400)),
            ("2", Some(400)),
            ("2.", Some(400)),
            (".17", Some(400)),
            ("2.17.1", Some(400)),
            ("2.x", Some(400)),
            ("+2.17", Some(400)),
            ("-2.17", Some(400)),
            ("2.99999999999999999999", Some(400)),
            ("two", Some(400)),
        ] {
            assert_eq!(
                check(Some(header)).err().map(|e| e.status),
                status,
                "{header:?}"
            );
        }
        assert_eq!(check(None).err().map(|e| e.status), Some(400));
        let refused = check(Some("2.9")).unwrap_err();
        assert!(refused.description.contains("2.10"), "{refused:?}");
    }
}
