//! Reading JSON objects that the other side sent: unknown fields are passed over, wrong ones are named.
//!
//! serde's derived readers quote what they did not like, and that can be a token or a password. Here an
//! object is read as it is, borrowing its texts, and then asked for its fields one by one; an error names
//! the message and the field and never shows a value.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// The largest whole number that a JSON number written with a fraction or exponent may stand for: beyond
/// 2^53 such numbers are not exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Why a message cannot be used. No variant holds anything of what was received but an `op`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// It is not JSON, or nested too deeply.
    #[error("{message}: not valid JSON (line {line}, column {column})")]
    NotJson {
        /// What it should have been.
        message: &'static str,
        /// Where reading stopped, counted from 1.
        line: usize,
        /// Where reading stopped, counted from 1.
        column: usize,
    },
    /// It is JSON, but no object.
    #[error("{message}: not a JSON object")]
    NotAnObject {
        /// What it should have been.
        message: &'static str,
    },
    /// A field is missing or wrong.
    #[error("{message}: the field `{field}` {problem}")]
    Field {
        /// The message that the field belongs to.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: FieldProblem,
    },
    /// A request that no client sends.
    #[error("unknown request `{op}`")]
    UnknownOp {
        /// Its `op`, cut to 64 characters.
        op: String,
    },
}

/// What is wrong with a field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldProblem {
    /// It has to be there.
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
    /// It has the right type and a value that cannot be.
    #[error("has a value that it cannot have")]
    Invalid,
}

/// A value, as far as messages use them.
#[derive(PartialEq)]
enum Value<'a> {
    Null,
    Bool(bool),
    Whole(i128),
    Fraction(f64),
    Text(Cow<'a, str>),
    List(Vec<Fields<'a>>),
    /// An object, or a list with something other than objects in it: read over, not kept.
    Other,
}

/// The fields of one object, in the order in which they came.
#[derive(PartialEq)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// The fields of one object together with the name of the message, for errors.
#[derive(Clone, Copy)]
pub(crate) struct Message<'m, 'a> {
    pub(crate) name: &'static str,
    fields: &'m Fields<'a>,
}

/// Reads the text of a message.
pub(crate) fn parse<'a>(text: &'a str, name: &'static str) -> Result<Fields<'a>, MessageError> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => MessageError::NotAnObject { message: name },
        _ => MessageError::NotJson { message: name, line: error.line(), column: error.column() },
    })
}

impl<'a> Fields<'a> {
    /// The same fields under the name that errors are to use.
    pub(crate) fn named(&self, name: &'static str) -> Message<'_, 'a> {
        Message { name, fields: self }
    }
}

impl<'m> Message<'m, '_> {
    /// The error for a field of this message.
    pub(crate) fn error(&self, field: &'static str, problem: FieldProblem) -> MessageError {
        MessageError::Field { message: self.name, field, problem }
    }

    /// Whether the field is there at all, be it with `null`.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.0.iter().any(|(name, _)| name == field)
    }

    /// The last value that was given for the field; `null` counts as none.
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

    /// A text, empty when there is none.
    pub(crate) fn text_or_empty(&self, field: &'static str) -> Result<String, MessageError> {
        Ok(self.text(field)?.unwrap_or_default().to_owned())
    }

    /// A text that has to be there.
    pub(crate) fn required_text(&self, field: &'static str) -> Result<&'m str, MessageError> {
        self.text(field)?.ok_or_else(|| self.error(field, FieldProblem::Missing))
    }

    /// A text made of a text or a whole number, empty when there is neither.
    pub(crate) fn text_or_number(&self, field: &'static str) -> Result<String, MessageError> {
        match self.value(field) {
            Some(Value::Whole(number)) => Ok(number.to_string()),
            _ => self.text_or_empty(field),
        }
    }

    /// Any value that says something, as text for people: for fields that report an error.
    pub(crate) fn complaint(&self, field: &str) -> Option<String> {
        match self.value(field)? {
            Value::Bool(false) => None,
            Value::Text(text) => Some(text.clone().into_owned()),
            Value::Whole(number) => Some(number.to_string()),
            _ => Some(String::new()),
        }
    }

    /// `true` or `false`; `false` when there is neither.
    pub(crate) fn flag(&self, field: &'static str) -> Result<bool, MessageError> {
        match self.value(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.error(field, FieldProblem::NotABoolean)),
        }
    }

    /// A count or size, if there is one. A number written as `2.0` or `2e3` is taken for the whole one.
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

    /// A count or size that has to be there.
    pub(crate) fn required_count(&self, field: &'static str) -> Result<u64, MessageError> {
        self.count(field)?.ok_or_else(|| self.error(field, FieldProblem::Missing))
    }

    /// A time in milliseconds since the epoch, 0 when there is none. A fraction is cut off: file systems
    /// give some clients times with one.
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
            Some(_) => Err(self.error(field, FieldProblem::NotAList)),
        }
    }

    /// The whole number that a floating one stands for.
    fn exact(&self, field: &'static str, number: f64) -> Result<i128, MessageError> {
        if number.abs() > MAX_EXACT {
            return Err(self.error(field, FieldProblem::TooLarge));
        }
        Ok(number as i128)
    }
}

/// Text from the other side for people to read: without control characters, at most `limit` characters.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        // The usual message has about a dozen fields.
        let mut fields = Vec::with_capacity(16);
        while let Some(name) = map.next_key_seed(TextSeed)? {
            fields.push((name, map.next_value()?));
        }
        Ok(Fields(fields))
    }
}

/// Reads a field's name, borrowed where it has no escapes.
struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Text(text) => Ok(text),
            _ => Err(D::Error::custom("a field name that is not text")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
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
        while let Some(item) = list.next_element::<Item<'de>>()? {
            match item {
                Item::Object(fields) => items.push(fields),
                // Not a list that any message has: the rest is read over and takes no memory.
                Item::Other => {
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Value::Other);
                }
            }
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// One element of a list.
enum Item<'a> {
    Object(Fields<'a>),
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item<'de>, A::Error> {
        FieldsVisitor.visit_map(map).map(Item::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item::Other)
    }

    fn visit_unit<E>(self) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }
}
