//! Reading JSON bodies, which are numbers for the most part.
//!
//! `Quick` reads what is right, and f32 straight from the text. What it does
//! not take, for whatever reason, is read again by serde_json, which has the
//! last word and the words for what is wrong. So `Quick` may refuse anything,
//! but what it takes it reads as serde_json does.

mod number;
mod text;

use memchr::memchr2;
use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

pub(crate) use self::number::nearest_f32;
use self::text::Ahead;
pub(crate) use self::text::{Collected, Text};

/// Reads a whole body.
///
/// # Errors
/// Those of serde_json.
pub(crate) fn read<T: DeserializeOwned>(text: &Text) -> serde_json::Result<T> {
    match quick(text) {
        Ok(value) => Ok(value),
        Err(Refused) => {
            let value = serde_json::from_slice(text.bytes())?;
            // What nobody asked for it passes over, whatever bytes it is made of.
            match std::str::from_utf8(text.bytes()) {
                Ok(_) => Ok(value),
                Err(error) => Err(de::Error::custom(format_args!("the body is not UTF-8: {error}"))),
            }
        }
    }
}

/// The same where nothing is left to serde_json.
pub(crate) fn quick<T: DeserializeOwned>(text: &Text) -> Read<T> {
    let mut quick = Quick { bytes: text.bytes(), at: 0, depth: 0, ahead: text.ahead(), numbers: Vec::new() };
    let value = T::deserialize(&mut quick)?;
    if quick.next().is_some() { Err(Refused) } else { Ok(value) }
}

/// As `deserialize_any`, but an array of numbers alone is one of f32. Others
/// than `Quick` see a wrapper that the visitor takes off.
pub(crate) fn vector_or_any<'de, D, V>(deserializer: D, visitor: V) -> Result<V::Value, D::Error>
where
    D: Deserializer<'de>,
    V: Visitor<'de>,
{
    deserializer.deserialize_newtype_struct(VECTOR, visitor)
}

const VECTOR: &str = "$cairn::vector";

/// Not taken here. serde_json will say why, or take it.
#[derive(Debug)]
pub(crate) struct Refused;

type Read<T> = Result<T, Refused>;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("left to serde_json")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Arrays and objects in each other, as many as serde_json reads.
const MAX_DEPTH: u8 = 127;

struct Quick<'de> {
    bytes: &'de [u8],
    at: usize,
    depth: u8,
    ahead: &'de Ahead,
    /// Those of the last vector; the room for them is used again.
    numbers: Vec<f32>,
}

impl<'de> Quick<'de> {
    /// The next byte that is not white; it is not taken.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        loop {
            match *self.bytes.get(self.at)? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn take(&mut self, byte: u8) -> Read<()> {
        if self.next() != Some(byte) {
            return Err(Refused);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Read<()> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(Refused);
        }
        self.at += word.len();
        Ok(())
    }

    /// A string as it stands there, unless something in it is escaped.
    fn plain(&mut self) -> Read<Option<&'de str>> {
        if self.next() != Some(b'"') {
            return Err(Refused);
        }
        let rest = &self.bytes[self.at + 1..];
        let end = memchr2(b'"', b'\\', rest).ok_or(Refused)?;
        if rest[end] == b'\\' {
            return Ok(None);
        }
        let text = &rest[..end];
        if text.iter().any(|byte| *byte < b' ') {
            return Err(Refused);
        }
        self.at += end + 2;
        std::str::from_utf8(text).map(Some).map_err(|_| Refused)
    }

    fn escaped(&mut self) -> Read<String> {
        let mut end = self.at + 1;
        loop {
            let rest = self.bytes.get(end..).ok_or(Refused)?;
            end += memchr2(b'"', b'\\', rest).ok_or(Refused)?;
            if self.bytes[end] == b'"' {
                break;
            }
            end += 2;
        }
        let text = serde_json::from_slice(&self.bytes[self.at..=end]).map_err(|_| Refused)?;
        self.at = end + 1;
        Ok(text)
    }

    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Read<V::Value> {
        let rest = &self.bytes[self.at..];
        let (length, is_whole) = number::extent(rest).ok_or(Refused)?;
        let text = std::str::from_utf8(&rest[..length]).map_err(|_| Refused)?;
        self.at += length;
        if is_whole && let Ok(number) = text.parse() {
            return visitor.visit_u64(number);
        }
        if is_whole
            && text != "-0"
            && let Ok(number) = text.parse()
        {
            return visitor.visit_i64(number);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => visitor.visit_f64(number),
            _ => Err(Refused),
        }
    }

    #[inline]
    fn f32(&mut self) -> Read<f32> {
        let (number, length) = number::nearest_f32(&self.bytes[self.at..]).ok_or(Refused)?;
        self.at += length;
        Ok(number)
    }

    /// Reads an array of numbers alone into `numbers`.
    fn vector(&mut self) -> Read<()> {
        self.numbers.clear();
        self.at = number::take_several(self.bytes, self.at, &mut self.numbers);
        loop {
            self.next();
            let number = self.f32()?;
            self.numbers.push(number);
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(Refused),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn nested<T>(&mut self, end: u8, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth == MAX_DEPTH {
            return Err(Refused);
        }
        self.at += 1;
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        self.take(end)?;
        Ok(value)
    }
}

impl<'de> Deserializer<'de> for &mut Quick<'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match self.next().ok_or(Refused)? {
            b'"' => match self.plain()? {
                Some(text) => visitor.visit_borrowed_str(text),
                None => visitor.visit_string(self.escaped()?),
            },
            b'[' => self.nested(b']', |quick| visitor.visit_seq(Items { quick, is_first: true })),
            b'{' => self.nested(b'}', |quick| visitor.visit_map(Items { quick, is_first: true })),
            b'n' => self.word("null").and_then(|()| visitor.visit_unit()),
            b't' => self.word("true").and_then(|()| visitor.visit_bool(true)),
            b'f' => self.word("false").and_then(|()| visitor.visit_bool(false)),
            _ => self.number(visitor),
        }
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.next();
        visitor.visit_f32(self.f32()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match self.next() {
            Some(b'n') => self.word("null").and_then(|()| visitor.visit_none()),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Read<V::Value> {
        if name != VECTOR || self.next() != Some(b'[') || self.depth == MAX_DEPTH {
            return visitor.visit_newtype_struct(self);
        }
        let start = self.at;
        if let Some((numbers, end)) = self.ahead.array(start) {
            self.at = end;
            return visitor.visit_seq(SeqDeserializer::new(numbers.iter().copied()));
        }
        self.at += 1;
        if !matches!(self.next(), Some(b'-' | b'0'..=b'9')) {
            self.at = start;
            return visitor.visit_newtype_struct(self);
        }
        self.vector()?;
        visitor.visit_seq(SeqDeserializer::new(self.numbers.iter().copied()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        match self.next() {
            Some(b'"') => {
                let name = self.plain()?.ok_or(Refused)?;
                visitor.visit_enum(BorrowedStrDeserializer::new(name))
            }
            Some(b'{') => self.nested(b'}', |quick| visitor.visit_enum(Variant { quick })),
            _ => Err(Refused),
        }
    }

    // Visitors may take more than they ask for; serde_json gives them no more.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        if self.next() == Some(b'"') { self.deserialize_any(visitor) } else { Err(Refused) }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        if self.next() == Some(b'[') { self.deserialize_any(visitor) } else { Err(Refused) }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        if self.next() == Some(b'{') { self.deserialize_any(visitor) } else { Err(Refused) }
    }

    // Nothing asks for these.
    fn deserialize_bytes<V: Visitor<'de>>(self, _: V) -> Read<V::Value> {
        Err(Refused)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, _: V) -> Read<V::Value> {
        Err(Refused)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f64 char unit unit_struct tuple tuple_struct
        struct ignored_any
    }
}

/// What is between two brackets.
struct Items<'a, 'de> {
    quick: &'a mut Quick<'de>,
    is_first: bool,
}

impl Items<'_, '_> {
    /// Whether there is another one before the end; if so, the comma in front of
    /// it was taken.
    #[inline]
    fn has_next(&mut self, end: u8) -> Read<bool> {
        if self.quick.next() == Some(end) {
            return Ok(false);
        }
        if !self.is_first {
            self.quick.take(b',')?;
        }
        self.is_first = false;
        Ok(true)
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Refused;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        if self.has_next(b']')? { seed.deserialize(&mut *self.quick).map(Some) } else { Ok(None) }
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, 'de> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Read<Option<K::Value>> {
        if !self.has_next(b'}')? {
            return Ok(None);
        }
        match self.quick.plain()? {
            Some(key) => seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some),
            None => seed.deserialize(self.quick.escaped()?.into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Read<V::Value> {
        self.quick.take(b':')?;
        seed.deserialize(&mut *self.quick)
    }
}

/// An object of one key, the name of a variant.
struct Variant<'a, 'de> {
    quick: &'a mut Quick<'de>,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Read<(V::Value, Self)> {
        let name = self.quick.plain()?.ok_or(Refused)?;
        let variant = seed.deserialize(BorrowedStrDeserializer::new(name))?;
        self.quick.take(b':')?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Refused;

    fn unit_variant(self) -> Read<()> {
        de::Deserialize::deserialize(self.quick)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<T::Value> {
        seed.deserialize(self.quick)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Read<V::Value> {
        self.quick.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Read<V::Value> {
        self.quick.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests;
