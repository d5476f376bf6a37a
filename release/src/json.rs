//! JSON, read so that it means one thing: no key twice in an object, no number but whole ones.
//!
//! What is signed is the canonical form of *everything* that a document says, also of what nobody here has
//! a word for; so a document is read into a `Value` first, and its canonical form comes from there.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, ser};
use serde_json::{Map, Value};
use std::fmt;

/// Reads JSON strictly. How deep it may be nested is `serde_json`'s bound: 128.
///
/// # Errors
/// Not JSON, a key that stands twice in one object, or a number that is not whole.
pub fn strict(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).map(|Strict(value)| value)
}

/// The canonical form, over which signatures are made: keys in order, nothing between the words.
///
/// # Errors
/// It has none: a number is not whole.
pub fn canonical(value: &Value) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    let formatter = olpc_cjson::CanonicalFormatter::new();
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut to).map_err(ser::Error::custom)?;
    Ok(bytes)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with whole numbers")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(value)) = from.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((key, Strict(value))) = from.next_entry::<String, _>()? {
            if all.contains_key(&key) {
                let shown: String = key.chars().take(80).collect();
                return Err(de::Error::custom(format!("the key {shown:?} stands twice")));
            }
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_means_one_thing() {
        let good = br#"{"b":[1,-2,null,true],"a":{"a":"x\u0000\n\"\\"}}"#;
        let value = strict(good).unwrap();
        assert_eq!(value, serde_json::from_slice::<Value>(good).unwrap());
        assert_eq!(
            canonical(&value).unwrap(),
            b"{\"a\":{\"a\":\"x\0\n\\\"\\\\\"},\"b\":[1,-2,null,true]}"
        );
        let said = strict(br#"{"a":{"b":1,"c":2,"b":1}}"#).unwrap_err();
        assert!(said.to_string().contains("\"b\" stands twice"), "{said}");
        for bad in [
            &b"{\"a\":1.5}"[..],
            b"{\"a\":1e3}",
            b"{} {}",
            b"{\"a\"",
            b"",
        ] {
            assert!(strict(bad).is_err());
        }
    }
}
