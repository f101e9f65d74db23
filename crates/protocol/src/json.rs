//! Reads JSON objects of the other side: unknown fields are ignored, invalid ones are named.
//!
//! serde's derived readers quote invalid input, and that can be a token or a password. Here an object is read
//! as it is, borrowing its texts, and then its fields are looked up one by one; an error names the message
//! and the field and never shows a value.
//!
//! The memory used is at most a small multiple of the text: an object has at most [`FIELDS`] fields, lists
//! are read only in the fields where the message has one and only up to a number of elements, and everything
//! else is skipped.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::limits;

/// The largest whole number that a JSON number written with a fraction or exponent may have: beyond 2^53 such
/// numbers are not exact.
const MAX_EXACT: f64 = limits::LARGEST_NUMBER as f64;

/// The most fields of one object, known or not. The longest message has 16.
const FIELDS: usize = 64;

/// Fields of a typical message; space for them is allocated with the first one.
const USUAL_FIELDS: usize = 12;

/// The reason why a message cannot be used. No variant has any part of the input but an `op`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// It is not JSON, or nested too deeply.
    #[error("{message}: not valid JSON (line {line}, column {column})")]
    NotJson {
        /// The expected message.
        message: &'static str,
        /// The line where parsing stopped, counted from 1.
        line: usize,
        /// The column where parsing stopped, counted from 1.
        column: usize,
    },
    /// It is JSON, but no object.
    #[error("{message}: not a JSON object")]
    NotAnObject {
        /// The expected message.
        message: &'static str,
    },
    /// It has more fields than any message.
    #[error("{message}: more than {FIELDS} fields")]
    TooManyFields {
        /// The expected message.
        message: &'static str,
    },
    /// A field is missing or wrong.
    #[error("{message}: the field `{field}` {problem}")]
    Field {
        /// The message that the field belongs to.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// The problem.
        problem: FieldProblem,
    },
    /// A request that no client sends.
    #[error("unknown request `{op}`")]
    UnknownOp {
        /// Its `op`, cut to 64 characters.
        op: String,
    },
}

/// The problem of a field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldProblem {
    /// It is required.
    #[error("is missing")]
    Missing,
    /// It is something other than text.
    #[error("is not text")]
    NotText,
    /// It is something other than a whole number.
    #[error("is not a whole number")]
    NotANumber,
    /// It is a number below zero where there can be none.
    #[error("is negative")]
    Negative,
    /// It is a number too large to be exact.
    #[error("is too large")]
    TooLarge,
    /// It is something other than `true` or `false`.
    #[error("is neither true nor false")]
    NotABoolean,
    /// It is something other than a list of objects.
    #[error("is not a list of objects")]
    NotAList,
    /// It is a text longer than its limit (docs/LIMITS.md).
    #[error("is too long")]
    TooLong,
    /// It is a list with more elements than its limit (docs/LIMITS.md).
    #[error("has too many elements")]
    TooMany,
    /// It has the right type but an impossible value.
    #[error("has a value that it cannot have")]
    Invalid,
}

/// A value, as far as messages use it.
#[derive(PartialEq)]
enum Value<'a> {
    Null,
    Bool(bool),
    Whole(i128),
    Fraction(f64),
    Text(Cow<'a, str>),
    List(Vec<Fields<'a>>),
    /// A list with more elements than allowed: skipped, not kept.
    LongList,
    /// An object, or a list that no message has: skipped, not kept.
    Other,
}

/// The fields that are lists of objects, and the limit of their elements. Elements have no lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists {
    pub(crate) fields: &'static [&'static str],
    pub(crate) most: usize,
}

impl Lists {
    /// For messages without any.
    pub(crate) const NONE: Self = Self { fields: &[], most: 0 };
}

/// The fields of one object, in input order.
#[derive(PartialEq)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// The fields of one object together with the name of the message, for errors.
#[derive(Clone, Copy)]
pub(crate) struct Message<'m, 'a> {
    pub(crate) name: &'static str,
    fields: &'m Fields<'a>,
}

/// Parses the text of a message, including the lists that `lists` names.
pub(crate) fn parse<'a>(text: &'a str, name: &'static str, lists: Lists) -> Result<Fields<'a>, MessageError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let seed = FieldsSeed { lists, usual: USUAL_FIELDS };
    let parsed = seed.deserialize(&mut reader).and_then(|fields| reader.end().map(|()| fields));
    let fields = parsed.map_err(|error| match error.classify() {
        serde_json::error::Category::Data => MessageError::NotAnObject { message: name },
        _ => MessageError::NotJson { message: name, line: error.line(), column: error.column() },
    })?;
    if fields.0.len() > FIELDS { Err(MessageError::TooManyFields { message: name }) } else { Ok(fields) }
}

impl<'a> Fields<'a> {
    /// The same fields with the message's name for errors.
    pub(crate) fn named(&self, name: &'static str) -> Message<'_, 'a> {
        Message { name, fields: self }
    }
}

impl<'m> Message<'m, '_> {
    /// The error for a field of this message.
    pub(crate) fn error(&self, field: &'static str, problem: FieldProblem) -> MessageError {
        MessageError::Field { message: self.name, field, problem }
    }

    /// True if the field is present, even with `null`.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.0.iter().any(|(name, _)| name == field)
    }

    /// True if the field is present with something other than `null`.
    pub(crate) fn holds(&self, field: &str) -> bool {
        self.value(field).is_some()
    }

    /// The last value of the field; `null` counts as none.
    fn value(&self, field: &str) -> Option<&'m Value<'m>> {
        let found = self.fields.0.iter().rev().find(|(name, _)| name == field);
        found.map(|(_, value)| value).filter(|value| **value != Value::Null)
    }

    /// A text, if there is one.
    pub(crate) fn text(&self, field: &'static str) -> Result<Option<&'m str>, MessageError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(field, FieldProblem::NotText)),
        }
    }

    /// A text of at most `most` bytes, empty if there is none.
    pub(crate) fn short_text(&self, field: &'static str, most: usize) -> Result<String, MessageError> {
        match self.text(field)?.unwrap_or_default() {
            text if text.len() > most => Err(self.error(field, FieldProblem::TooLong)),
            text => Ok(text.to_owned()),
        }
    }

    /// A required text of at most `most` bytes.
    pub(crate) fn required_short_text(
        &self,
        field: &'static str,
        most: usize,
    ) -> Result<String, MessageError> {
        self.required_text(field)?;
        self.short_text(field, most)
    }

    /// A text, empty if there is none.
    pub(crate) fn text_or_empty(&self, field: &'static str) -> Result<String, MessageError> {
        Ok(self.text(field)?.unwrap_or_default().to_owned())
    }

    /// A required text.
    pub(crate) fn required_text(&self, field: &'static str) -> Result<&'m str, MessageError> {
        self.text(field)?.ok_or_else(|| self.error(field, FieldProblem::Missing))
    }

    /// A text of at most `most` bytes from a text or a whole number, empty if there is neither.
    pub(crate) fn short_text_or_number(
        &self,
        field: &'static str,
        most: usize,
    ) -> Result<String, MessageError> {
        match self.value(field) {
            Some(Value::Whole(number)) => Ok(number.to_string()),
            _ => self.short_text(field, most),
        }
    }

    /// Any meaningful value, as text for people: for fields that report an error.
    pub(crate) fn complaint(&self, field: &str) -> Option<String> {
        match self.value(field)? {
            Value::Bool(false) => None,
            Value::Text(text) => Some(text.clone().into_owned()),
            Value::Whole(number) => Some(number.to_string()),
            _ => Some(String::new()),
        }
    }

    /// `true` or `false`; `false` if there is neither.
    pub(crate) fn flag(&self, field: &'static str) -> Result<bool, MessageError> {
        match self.value(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.error(field, FieldProblem::NotABoolean)),
        }
    }

    /// A count or size, if there is one. A number written as `2.0` or `2e3` counts as a whole one.
    pub(crate) fn count(&self, field: &'static str) -> Result<Option<u64>, MessageError> {
        let number = match self.value(field) {
            None => return Ok(None),
            Some(Value::Whole(number)) => *number,
            Some(Value::Fraction(number)) if number.fract() == 0.0 => self.exact(field, *number)?,
            Some(_) => return Err(self.error(field, FieldProblem::NotANumber)),
        };
        match u64::try_from(number) {
            Ok(count) => Ok(Some(count)),
            Err(_) if number < 0 => Err(self.error(field, FieldProblem::Negative)),
            Err(_) => Err(self.error(field, FieldProblem::TooLarge)),
        }
    }

    /// A required count or size.
    pub(crate) fn required_count(&self, field: &'static str) -> Result<u64, MessageError> {
        self.count(field)?.ok_or_else(|| self.error(field, FieldProblem::Missing))
    }

    /// A time in milliseconds since the epoch, 0 if there is none. A fraction is cut off: file systems give
    /// some clients times with one.
    pub(crate) fn time(&self, field: &'static str) -> Result<i64, MessageError> {
        let number = match self.value(field) {
            None => 0,
            Some(Value::Whole(number)) => *number,
            Some(Value::Fraction(number)) => self.exact(field, number.trunc())?,
            Some(_) => return Err(self.error(field, FieldProblem::NotANumber)),
        };
        i64::try_from(number).map_err(|_| self.error(field, FieldProblem::TooLarge))
    }

    /// A list of objects, if there is one.
    pub(crate) fn list(&self, field: &'static str) -> Result<Option<&'m [Fields<'m>]>, MessageError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::List(items)) => Ok(Some(items)),
            Some(Value::LongList) => Err(self.error(field, FieldProblem::TooMany)),
            Some(_) => Err(self.error(field, FieldProblem::NotAList)),
        }
    }

    /// The whole number equal to a floating one.
    fn exact(&self, field: &'static str, number: f64) -> Result<i128, MessageError> {
        if number.abs() > MAX_EXACT {
            return Err(self.error(field, FieldProblem::TooLarge));
        }
        Ok(number as i128)
    }
}

/// Text of the other side for people: without control characters, at most `limit` characters.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

/// The other side's reason for a refusal. As long as a message can be: a truncated secret could not be found
/// in it any more.
pub(crate) fn reason(text: &str) -> String {
    clean(text.trim(), limits::TEXT_MESSAGE)
}

/// Reads an object, including the lists that `lists` names.
struct FieldsSeed {
    lists: Lists,
    /// Space to reserve for fields when the first one arrives.
    usual: usize,
}

impl<'de> DeserializeSeed<'de> for FieldsSeed {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsSeed {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            if fields.is_empty() {
                fields.reserve(self.usual);
            }
            let most = if self.lists.fields.contains(&&*name) { self.lists.most } else { 0 };
            fields.push((name, map.next_value_seed(ValueSeed { most })?));
            if fields.len() > FIELDS {
                // The caller sees that there is one too many, and refuses it.
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(Fields(fields))
    }
}

/// Reads a field's name, borrowed if it has no escapes.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }
}

/// Reads a value; a list only if it may have elements.
struct ValueSeed {
    /// Limit of elements of a list here.
    most: usize,
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        let mut items = Vec::new();
        let mut kind = None;
        while kind.is_none() && self.most > 0 {
            match list.next_element_seed(ItemSeed)? {
                None => return Ok(Value::List(items)),
                Some(_) if items.len() == self.most => kind = Some(Value::LongList),
                Some(Some(item)) => items.push(item),
                Some(None) => kind = Some(Value::Other),
            }
        }
        // The rest is skipped and takes no memory.
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(kind.unwrap_or(Value::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// Reads one element of a list: an object, or something else, which is not kept.
struct ItemSeed;

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = Option<Fields<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Fields<'de>>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed {
    type Value = Option<Fields<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Fields<'de>>, A::Error> {
        let fields = FieldsSeed { lists: Lists::NONE, usual: 0 }.visit_map(map)?;
        Ok((fields.0.len() <= FIELDS).then_some(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Fields<'de>>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<Fields<'de>>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<Fields<'de>>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<Fields<'de>>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<Fields<'de>>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<Fields<'de>>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<Fields<'de>>, E> {
        Ok(None)
    }
}
