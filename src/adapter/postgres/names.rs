//! Names of databases and roles, which follow from ids, and how names and texts stand in a statement.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The longest prefix: a name has 63 bytes at most, and [`kept`] is the longest one.
pub const LONGEST_PREFIX: usize = 10;

/// The database of an instance, and the group role that owns it: `PREFIX_` and the id if that is a UUID, with `_` for `-`;
/// else a digest of it.
pub fn database(prefix: &str, instance_id: &str) -> String {
    if is_uuid(instance_id) {
        format!("{prefix}_{}", instance_id.replace('-', "_"))
    } else {
        format!("{prefix}_{}", digest(&[instance_id]))
    }
}

/// The role of a binding. Another instance may have a binding with the same id.
pub fn user(prefix: &str, instance_id: &str, binding_id: &str) -> String {
    format!(
        "{}{}",
        user_prefix(prefix),
        digest(&[instance_id, binding_id])
    )
}

/// What every role of a binding begins with.
pub fn user_prefix(prefix: &str) -> String {
    format!("{prefix}_u_")
}

/// The database of an instance that is gone, and its group: kept until this second since 1970.
pub fn kept(database: &str, until: u64) -> String {
    format!("{database}_kept_{until}")
}

/// Until when a database is kept, if it has such a name.
pub fn kept_until(prefix: &str, name: &str) -> Option<u64> {
    let rest = name.strip_prefix(prefix)?.strip_prefix('_')?;
    let (_, until) = rest.rsplit_once("_kept_")?;
    until.parse().ok()
}

/// A name in a statement.
pub fn quoted(name: &str) -> String {
    escape_identifier(name)
}

/// A text in a statement that takes no parameters. PostgreSQL's texts have no NUL.
pub fn literal(text: &str) -> String {
    escape_literal(&text.replace('\0', ""))
}

/// As platforms write them: in small letters.
fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// 128 bits of SHA-256, in 32 letters and digits. Each id stands with its length, so that two of them are not like others
/// that only read the same.
fn digest(ids: &[&str]) -> String {
    let mut hash = Sha256::new();
    for id in ids {
        hash.update((id.len() as u64).to_be_bytes());
        hash.update(id);
    }
    let mut text = String::with_capacity(32);
    for byte in hash.finalize().iter().take(16) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    #[test]
    fn names_fit_and_differ() {
        let prefix = "a".repeat(LONGEST_PREFIX);
        let database_name = database(&prefix, UUID);
        assert_eq!(
            database("cf", UUID),
            "cf_0f8fad5b_d9cb_469f_a165_70867728950e"
        );
        assert!(kept(&database_name, 9_999_999_999).len() <= 63);
        assert!(user(&prefix, UUID, UUID).len() <= 63);
        let ids = [
            UUID,
            "0F8FAD5B-d9cb-469f-a165-70867728950e",
            "1",
            "\"; --",
            "u_1",
            "é",
        ];
        let names: std::collections::HashSet<_> = ids.iter().map(|id| database("cf", id)).collect();
        assert_eq!(names.len(), ids.len());
        assert!(names.iter().all(|name| {
            name.bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        }));
        assert_ne!(user("cf", "a", "bc"), user("cf", "ab", "c"));
    }

    #[test]
    fn a_kept_database_says_until_when() {
        let name = kept(&database("cf", UUID), 1_800_000_000);
        assert_eq!(kept_until("cf", &name), Some(1_800_000_000));
        assert_eq!(kept_until("c", &name), None);
        assert_eq!(kept_until("cf", &database("cf", UUID)), None);
    }
}
