//! Parses and builds an item's attributes. Nothing read from an item is trusted to be as obsync wrote it.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;

/// The table's key.
pub(super) const VAULT_ID: &str = "vault_id";

/// An item as DynamoDB has it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Description of the damage to an item.
pub(super) type Damage = String;

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(super) fn number(value: impl Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// An item's key on its own.
pub(super) fn key(value: impl Into<String>) -> Item {
    Item::from([(VAULT_ID.to_owned(), text(value))])
}

/// An estimate of an item's size in DynamoDB's terms, in bytes; never too low for the kinds of attributes
/// that obsync writes.
pub(super) fn size(item: &Item) -> usize {
    let value_size = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len() + 1,
        _ => 1,
    };
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

/// Reads attributes of an item.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a Item);

impl<'a> Reader<'a> {
    pub(super) fn find_text(&self, name: &str) -> Result<Option<&'a str>, Damage> {
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{name}` is not a text")),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, Damage> {
        self.find_text(name)?.ok_or_else(|| format!("it has no `{name}`"))
    }

    /// An optional number.
    pub(super) fn find_number<N: FromStr>(&self, name: &str) -> Result<Option<N>, Damage> {
        let wrong = || format!("`{name}` is not a number that it can be");
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(digits)) => digits.parse().map(Some).map_err(|_| wrong()),
            Some(_) => Err(wrong()),
        }
    }

    /// A number.
    pub(super) fn number<N: FromStr>(&self, name: &str) -> Result<N, Damage> {
        self.find_number(name)?.ok_or_else(|| format!("it has no `{name}`"))
    }

    /// A boolean; a missing one is false.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Damage> {
        match self.0.get(name) {
            None => Ok(false),
            Some(AttributeValue::Bool(value)) => Ok(*value),
            Some(_) => Err(format!("`{name}` is neither true nor false")),
        }
    }

    /// The item's key.
    pub(super) fn key(&self) -> Result<&'a str, Damage> {
        self.text(VAULT_ID)
    }
}

/// An update of one item: an expression with its names and values. Attributes have placeholders, since
/// several of ours are reserved words of DynamoDB.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    sets: Vec<String>,
    removes: Vec<String>,
    /// Attribute names by placeholder.
    pub(super) names: HashMap<String, String>,
    /// Attribute values by placeholder.
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Changes {
    pub(super) fn set(&mut self, name: &str, value: AttributeValue) {
        let (attribute, operand) = (self.attribute(name), self.operand(name, value));
        self.sets.push(format!("{attribute} = {operand}"));
    }

    /// Sets an attribute to an expression.
    pub(super) fn set_expression(&mut self, name: &str, expression: &str) {
        let attribute = self.attribute(name);
        self.sets.push(format!("{attribute} = {expression}"));
    }

    /// Removes an attribute.
    pub(super) fn remove(&mut self, name: &str) {
        let attribute = self.attribute(name);
        self.removes.push(attribute);
    }

    /// The placeholder for an attribute, `#name`.
    pub(super) fn attribute(&mut self, name: &str) -> String {
        let placeholder = format!("#{name}");
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    /// The placeholder for a value, `:name`.
    pub(super) fn operand(&mut self, name: &str, value: AttributeValue) -> String {
        let placeholder = format!(":{name}");
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    /// The update expression.
    pub(super) fn expression(&self) -> String {
        let mut parts = Vec::new();
        if !self.sets.is_empty() {
            parts.push(format!("SET {}", self.sets.join(", ")));
        }
        if !self.removes.is_empty() {
            parts.push(format!("REMOVE {}", self.removes.join(", ")));
        }
        parts.join(" ")
    }

    /// Attribute values by placeholder; DynamoDB rejects an empty map.
    pub(super) fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}
