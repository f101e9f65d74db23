//! Documents that differ by a field from a program's output, for the tests of closed schemas. The function's
//! tests include this file, too.

use serde_json::Value;

/// A change of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alteration {
    /// It is missing.
    Removed,
    /// It has another name.
    Renamed,
    /// An unknown one is added.
    Added,
}

/// The documents that differ from this one by a field: one of its own, or one of an object in it, or of the
/// first object of a list in it. Each with the change and its position, such as `destinations.0.version`.
pub(crate) fn altered(document: &Value) -> Vec<(Alteration, String, Value)> {
    let mut places = vec![String::new()];
    for (name, value) in document.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => places.push(format!("/{name}")),
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                places.push(format!("/{name}/0"));
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    for place in places {
        let fields = document.pointer(&place).and_then(Value::as_object);
        let names: Vec<String> = fields.into_iter().flat_map(|fields| fields.keys().cloned()).collect();
        let mut alter = |alteration, name: &str| {
            let mut changed = document.clone();
            if let Some(fields) = changed.pointer_mut(&place).and_then(Value::as_object_mut) {
                let value = match alteration {
                    Alteration::Added => Some(Value::Bool(true)),
                    Alteration::Removed | Alteration::Renamed => fields.remove(name),
                };
                if alteration != Alteration::Removed {
                    fields.insert(format!("{name}_"), value.unwrap_or_default());
                }
            }
            let path = format!("{place}/{name}").trim_start_matches('/').replace('/', ".");
            all.push((alteration, path, changed));
        };
        for name in &names {
            alter(Alteration::Removed, name);
            alter(Alteration::Renamed, name);
        }
        alter(Alteration::Added, "surprise");
    }
    all
}
