//! JSON, read so that it means one thing: two readers of a text with a key that stands twice can read two things.
//!
//! What is signed of metadata is the canonical form of *everything* that a document says, also of what nobody here
//! has a word for; so a document is read into a `Value` first, and its canonical form comes from there. A canonical
//! form has no number but whole ones. Evidence is signed as the bytes that it is.

use serde::de::{
    self, Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::{Serialize, ser};
use serde_json::{Map, Value};
use std::fmt;

/// Reads JSON strictly. How deep it may be nested is `serde_json`'s bound: 128.
///
/// # Errors
/// Not JSON, something behind it, a key that stands twice in one object, or a number that is not whole.
pub fn strict(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).map(|Strict::<false>(value)| value)
}

/// Reads a `T` from JSON as strictly, but for numbers: they may be fractions.
///
/// # Errors
/// Not JSON, something behind it, a key that stands twice in one object, or no `T`.
pub fn strict_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let Strict::<true>(value) = serde_json::from_slice(bytes)?;
    serde_json::from_value(value)
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

/// A value in which numbers may be `FRACTIONS`, or must be whole.
struct Strict<const FRACTIONS: bool>(Value);

impl<'de, const FRACTIONS: bool> Deserialize<'de> for Strict<FRACTIONS> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader::<FRACTIONS>).map(Self)
    }
}

struct Reader<const FRACTIONS: bool>;

impl<'de, const FRACTIONS: bool> Visitor<'de> for Reader<FRACTIONS> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match FRACTIONS {
            true => "JSON",
            false => "JSON with whole numbers",
        })
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

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        match FRACTIONS {
            true => Ok(value.into()),
            false => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict::<FRACTIONS>(value)) = from.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((key, Strict::<FRACTIONS>(value))) = from.next_entry::<String, _>()? {
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

    #[test]
    fn nothing_is_said_twice_at_any_depth_and_fractions_are_numbers() {
        let text = r#"{"a":[1,-2,0.5,null,true,"x",{"b":{}}],"c":""}"#;
        let value: Value = strict_as(text.as_bytes()).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":[{"b":1,"c":2,"b":3}]}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1}{"#,
            r#"{"a":1} x"#,
            "",
        ] {
            assert!(strict_as::<Value>(bad.as_bytes()).is_err(), "{bad}");
            assert!(strict(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(strict_as::<Value>(deep.as_bytes()).is_err());
    }
}
