//! A JSON object whose fields keep their order and their text, so that a file of others can be changed in
//! one place and stay as it is in all others.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Fields in their order.
#[derive(Debug, Clone, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Returns the value of a field as another type; `None` where it is missing or null.
    pub fn get<'a, T: Deserialize<'a>>(&'a self, name: &str) -> serde_json::Result<Option<T>> {
        // Of several fields of one name the last counts, as in docker.
        match self.0.iter().rev().find(|(own, _)| own == name) {
            Some((_, value)) => serde_json::from_str(value.get()),
            None => Ok(None),
        }
    }

    /// Returns the names of the fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Puts a value in a field's place, or a new field at the end.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
        let value = serde_json::value::to_raw_value(value)?;
        match self.0.iter_mut().rev().find(|(own, _)| own == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Removes a field; tells whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(own, _)| own != name);
        self.0.len() != before
    }

    /// Tells whether it has no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes it with one field a line, the values as they are; `depth`: how deep it lies in the file.
    pub fn pretty(&self, depth: usize) -> String {
        let lines = self.0.iter().map(|(name, value)| {
            // A text always becomes JSON.
            let name = serde_json::to_string(name).unwrap_or_default();
            format!("{}{name}: {}", "\t".repeat(depth + 1), value.get())
        });
        match self.is_empty() {
            true => "{}".to_owned(),
            false => format!("{{\n{}\n{}}}", lines.collect::<Vec<_>>().join(",\n"), "\t".repeat(depth)),
        }
    }

    /// Puts an object in a field's place, written for that depth.
    pub fn set_object(&mut self, name: &str, object: &RawObject, depth: usize) -> serde_json::Result<()> {
        let value = RawValue::from_string(object.pretty(depth))?;
        self.set(name, &value)
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawObject, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_changes() {
        let text = "{\n\t\"z\": {\n\t\t\"y\":  1e5\n\t},\n\t\"a\": [ 1 ],\n\t\"m\": 1.0\n}";
        let mut object: RawObject = serde_json::from_str(text).unwrap();
        assert_eq!(object.pretty(0), text);
        object.set("a", &2).unwrap();
        object.set("new", &"x\"").unwrap();
        assert!(object.remove("m") && !object.remove("m"));
        let expect = "{\n\t\"z\": {\n\t\t\"y\":  1e5\n\t},\n\t\"a\": 2,\n\t\"new\": \"x\\\"\"\n}";
        assert_eq!(object.pretty(0), expect);
        assert_eq!(object.get::<u32>("a").unwrap(), Some(2));
        assert_eq!(object.get::<u32>("b").unwrap(), None);
        assert_eq!(RawObject::default().pretty(3), "{}");
    }
}
