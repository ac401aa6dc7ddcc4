//! Keys that stand twice in one object. JSON leaves open which of them counts, and a parsed value has the last alone.

use crate::catalog::finding::Findings;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

/// Reports every key that an object of the text has more than once, at the place of the key. Text that is no JSON is
/// left to those who parse it.
pub(super) fn find(text: &str, findings: &mut Findings) {
    let found = RefCell::new(Findings::default());
    let walk = Walk {
        place: String::new(),
        findings: &found,
    };
    if walk
        .deserialize(&mut serde_json::Deserializer::from_str(text))
        .is_ok()
    {
        findings.0.append(&mut found.into_inner().0);
    }
}

/// One value, looked at for the objects in it.
struct Walk<'f> {
    place: String,
    findings: &'f RefCell<Findings>,
}

impl<'f> Walk<'f> {
    fn at(&self, segment: fmt::Arguments<'_>) -> Walk<'f> {
        Walk {
            place: format!("{}{segment}", self.place),
            findings: self.findings,
        }
    }

    fn key(&self, key: &str) -> Walk<'f> {
        let dot = if self.place.is_empty() { "" } else { "." };
        self.at(format_args!("{dot}{key}"))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut times: HashMap<String, usize> = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let walk = self.key(&key);
            let times = times.entry(key).or_default();
            *times += 1;
            if *times == 2 {
                self.findings.borrow_mut().error(
                    walk.place.as_str(),
                    "found more than once in the same object, wanted once",
                );
            }
            map.next_value_seed(walk)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut i = 0;
        while items
            .next_element_seed(self.at(format_args!("[{i}]")))?
            .is_some()
        {
            i += 1;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
