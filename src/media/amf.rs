//! AMF0 read from strangers: bounded in depth and count, never a panic.
//!
//! Commands and script data arrive before anybody is authorized, so nothing in the bytes sizes an allocation:
//! what is kept is paid for by bytes that are really there. Writing is left to `rml_amf0`.

use thiserror::Error;

/// Objects and arrays inside each other. Encoders use 3; the reader recurses once for each.
pub const DEPTH_MAX: usize = 16;

/// Values in one message, keys not counted. The longest `onMetaData` seen has about 60.
pub const VALUES_MAX: usize = 4096;

/// One AMF0 value (AMF 0 specification, §2). Kinds that say the same are read as one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// §2.2.
    Number(f64),
    /// §2.3.
    Boolean(bool),
    /// String, long string and XML document (§2.4, §2.14, §2.17), valid UTF-8.
    String(String),
    /// Object, ECMA array and typed object (§2.5, §2.10, §2.18) in the order written; a key may repeat.
    Object(Vec<(String, Value)>),
    /// §2.12.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970 in UTC; the time zone is reserved (§2.13).
    Date(f64),
    /// §2.7.
    Null,
    /// Undefined and unsupported (§2.8, §2.15).
    Undefined,
}

impl Value {
    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The value under `key` of an object. Of several the last counts, as in the players that assign in order.
    pub fn property(&self, key: &str) -> Option<&Self> {
        let Self::Object(properties) = self else { return None };
        properties.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// Why bytes are not AMF0 that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// The bytes end inside a value.
    #[error("AMF0 value is cut off")]
    Truncated,
    /// More nesting than [`DEPTH_MAX`].
    #[error("AMF0 values are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// More values than [`VALUES_MAX`].
    #[error("AMF0 message has more than {VALUES_MAX} values")]
    TooMany,
    /// A strict array that announces more values than bytes follow.
    #[error("AMF0 strict array of {count} values in {left} bytes")]
    Count {
        /// Values announced.
        count: u32,
        /// Bytes behind the announcement.
        left: usize,
    },
    /// A string that is not UTF-8.
    #[error("AMF0 string is not UTF-8")]
    Utf8,
    /// A marker that is reserved, a reference, or AMF3's.
    #[error("AMF0 marker {marker} is not supported")]
    Marker {
        /// The marker.
        marker: u8,
    },
}

/// Reads every value of a message body. All or nothing.
pub fn read_all(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader { rest: bytes, values_left: VALUES_MAX };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(DEPTH_MAX)?);
    }
    Ok(values)
}

#[derive(Debug)]
struct Reader<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl<'a> Reader<'a> {
    /// Recurses once per level, at most `depth_left` times.
    fn value(&mut self, depth_left: usize) -> Result<Value, Error> {
        let [marker] = self.array()?;
        self.value_after(marker, depth_left)
    }

    fn value_after(&mut self, marker: u8, depth_left: usize) -> Result<Value, Error> {
        self.values_left = self.values_left.checked_sub(1).ok_or(Error::TooMany)?;
        Ok(match marker {
            marker::NUMBER => Value::Number(self.number()?),
            marker::BOOLEAN => Value::Boolean(self.array::<1>()? != [0]),
            marker::STRING => Value::String(self.short_string()?.to_owned()),
            marker::LONG_STRING | marker::XML_DOCUMENT => {
                let len = u32::from_be_bytes(self.array()?) as usize;
                Value::String(self.text(len)?.to_owned())
            }
            marker::OBJECT => Value::Object(self.properties(depth_left)?),
            marker::TYPED_OBJECT => {
                self.short_string()?;
                Value::Object(self.properties(depth_left)?)
            }
            marker::ECMA_ARRAY => {
                // The count is a hint that encoders get wrong (ffmpeg writes 0 when it cannot seek).
                self.array::<4>()?;
                Value::Object(self.properties(depth_left)?)
            }
            marker::STRICT_ARRAY => Value::StrictArray(self.strict_array(depth_left)?),
            marker::DATE => {
                let ms = self.number()?;
                self.array::<2>()?;
                Value::Date(ms)
            }
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            marker => return Err(Error::Marker { marker }),
        })
    }

    fn properties(&mut self, depth_left: usize) -> Result<Vec<(String, Value)>, Error> {
        let depth_left = depth_left.checked_sub(1).ok_or(Error::TooDeep)?;
        let mut properties = Vec::new();
        loop {
            let key = self.short_string()?;
            let [marker] = self.array()?;
            if marker == marker::OBJECT_END {
                return Ok(properties);
            }
            properties.push((key.to_owned(), self.value_after(marker, depth_left)?));
        }
    }

    fn strict_array(&mut self, depth_left: usize) -> Result<Vec<Value>, Error> {
        let depth_left = depth_left.checked_sub(1).ok_or(Error::TooDeep)?;
        let count = u32::from_be_bytes(self.array()?);
        let left = self.rest.len();
        if count as usize > left {
            return Err(Error::Count { count, left });
        }
        (0..count).map(|_| self.value(depth_left)).collect()
    }

    fn number(&mut self) -> Result<f64, Error> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn short_string(&mut self) -> Result<&'a str, Error> {
        let len = u16::from_be_bytes(self.array()?).into();
        self.text(len)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, Error> {
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| Error::Utf8)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }
}

/// AMF 0 specification, §2.1.
mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML_DOCUMENT: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use rml_amf0::Amf0Value;

    use super::*;

    fn string(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn every_kind_is_read() {
        let table: &[(&str, &[u8], Value)] = &[
            ("number", b"\x00\x3f\xf0\0\0\0\0\0\0", Value::Number(1.0)),
            ("boolean", b"\x01\x01", Value::Boolean(true)),
            ("string", b"\x02\0\x02ab", string("ab")),
            ("object", b"\x03\0\x01a\x05\0\0\x09", Value::Object(vec![("a".into(), Value::Null)])),
            ("null", b"\x05", Value::Null),
            ("undefined", b"\x06", Value::Undefined),
            ("ecma array, count wrong", b"\x08\0\0\0\0\0\x01a\x06\0\0\x09", {
                Value::Object(vec![("a".into(), Value::Undefined)])
            }),
            ("strict array", b"\x0a\0\0\0\x02\x05\x01\0", {
                Value::StrictArray(vec![Value::Null, Value::Boolean(false)])
            }),
            ("date", b"\x0b\x3f\xf0\0\0\0\0\0\0\0\0", Value::Date(1.0)),
            ("long string", b"\x0c\0\0\0\x01a", string("a")),
            ("unsupported", b"\x0d", Value::Undefined),
            ("xml", b"\x0f\0\0\0\x03<a>", string("<a>")),
            ("typed object", b"\x10\0\x01T\0\0\x09", Value::Object(vec![])),
        ];
        for (name, bytes, value) in table {
            assert_eq!(read_all(bytes).as_ref(), Ok(&vec![value.clone()]), "{name}");
            for len in 1..bytes.len() {
                let error = read_all(&bytes[..len]).unwrap_err();
                assert!(
                    matches!(error, Error::Truncated | Error::Count { .. }),
                    "{name} cut to {len}: {error}"
                );
            }
        }
    }

    /// 12 KB of nested objects overflow the stack of `rml_amf0`.
    #[test]
    fn nesting_is_refused_past_its_depth() {
        let nested = |depth: usize| {
            let mut bytes = b"\x03\0\x01a".repeat(depth);
            bytes.push(5);
            bytes.extend(b"\0\0\x09".repeat(depth));
            read_all(&bytes)
        };
        assert!(nested(DEPTH_MAX).is_ok());
        assert_eq!(nested(DEPTH_MAX + 1), Err(Error::TooDeep));
        assert_eq!(nested(100_000), Err(Error::TooDeep));
        assert_eq!(read_all(&b"\x0a\0\0\0\x01".repeat(5000)), Err(Error::TooDeep));
    }

    /// 16 MB of nulls become 1 GB in `rml_amf0`; SRS leaked on strict arrays (49c737f99).
    #[test]
    fn counts_are_paid_for_by_bytes() {
        assert_eq!(read_all(&[5; VALUES_MAX]).map(|values| values.len()), Ok(VALUES_MAX));
        assert_eq!(read_all(&[5; VALUES_MAX + 1]), Err(Error::TooMany));
        let bomb = b"\x0a\xff\xff\xff\xff\x05\x05";
        assert_eq!(read_all(bomb), Err(Error::Count { count: u32::MAX, left: 2 }));
    }

    #[test]
    fn text_is_utf8_and_markers_are_known() {
        assert_eq!(read_all(b"\x02\0\x01\xff"), Err(Error::Utf8));
        for marker in [4, 7, 9, 14, 17, 255] {
            assert_eq!(read_all(&[marker, 0, 0]), Err(Error::Marker { marker }));
        }
    }

    #[test]
    fn of_a_repeated_key_the_last_counts() {
        let object = Value::Object(vec![("a".into(), Value::Null), ("a".into(), Value::Number(2.0))]);
        assert_eq!(object.property("a").and_then(Value::as_number), Some(2.0));
        assert_eq!(object.property("b"), None);
        assert_eq!(string("x").as_str(), Some("x"));
    }

    /// The independent writer's values and ours say the same.
    fn same(theirs: &Amf0Value, ours: &Value) -> bool {
        match (theirs, ours) {
            (Amf0Value::Number(a), Value::Number(b)) => a.to_bits() == b.to_bits(),
            (Amf0Value::Boolean(a), Value::Boolean(b)) => a == b,
            (Amf0Value::Utf8String(a), Value::String(b)) => a == b,
            (Amf0Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && b.iter().all(|(key, value)| a.get(key).is_some_and(|a| same(a, value)))
            }
            (Amf0Value::StrictArray(a), Value::StrictArray(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Amf0Value::Null, Value::Null) | (Amf0Value::Undefined, Value::Undefined) => true,
            _ => false,
        }
    }

    fn any_value() -> impl Strategy<Value = Amf0Value> {
        let leaf = prop_oneof![
            any::<f64>().prop_map(Amf0Value::Number),
            any::<bool>().prop_map(Amf0Value::Boolean),
            "\\PC{0,20}".prop_map(Amf0Value::Utf8String),
            Just(Amf0Value::Null),
            Just(Amf0Value::Undefined),
        ];
        leaf.prop_recursive(4, 40, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Amf0Value::StrictArray),
                prop::collection::vec(("[a-z]{1,8}", inner), 0..8)
                    .prop_map(|pairs| Amf0Value::Object(pairs.into_iter().collect::<HashMap<_, _>>())),
            ]
        })
    }

    proptest! {
        /// `rml_amf0` writes, we read.
        #[test]
        fn what_an_independent_writer_wrote_is_read(values in prop::collection::vec(any_value(), 0..5)) {
            let bytes = rml_amf0::serialize(&values).unwrap();
            let read = read_all(&bytes).unwrap();
            prop_assert_eq!(read.len(), values.len());
            prop_assert!(values.iter().zip(&read).all(|(theirs, ours)| same(theirs, ours)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(0u8..18, 0..600)) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn mutated_bytes_never_panic(
            values in prop::collection::vec(any_value(), 1..5),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = rml_amf0::serialize(&values).unwrap();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = read_all(&bytes);
        }
    }
}
