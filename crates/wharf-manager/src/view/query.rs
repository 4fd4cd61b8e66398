//! A URL's query, read as Docker reads it.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use crate::Error;

/// The parameters of a request, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// What `filters` asks for: per key the values, any of which will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Query {
    /// Takes a query apart.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`] if something in it is no UTF-8.
    pub(crate) fn parse(query: &str) -> Result<Self, Error> {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            let decoded = percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned);
            decoded.map_err(|_| Error::invalid(format!("the query has a value that is not UTF-8: {text}")))
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, Error>>()?))
    }

    /// The first value of that key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// All values of that key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The query as text, with another value of that key.
    pub(crate) fn with(&self, key: &str, value: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs = self.0.iter().map(|(known, old)| {
            let value = if known == key { value } else { old };
            format!("{}={}", encode(known), encode(value))
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    /// The query with another name of a key.
    pub(crate) fn renamed(&self, key: &str, name: &str) -> Self {
        let name = |known: &String| if known == key { name.to_owned() } else { known.clone() };
        Self(self.0.iter().map(|(known, value)| (name(known), value.clone())).collect())
    }

    /// The query as text.
    pub(crate) fn text(&self) -> String {
        self.with("", "")
    }

    /// Docker's rule: nothing, `0`, `no`, `false` and `none` are false, all else is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        let value = self.get(key).unwrap_or("").trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A whole number.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`] if it is none.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, Error> {
        let Some(value) = self.get(key).filter(|value| !value.is_empty()) else { return Ok(None) };
        let number = value.parse().map_err(|_| Error::invalid(format!("{key}={value}: want a whole number")))?;
        Ok(Some(number))
    }

    /// The `filters`, of which only `known` may be given.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`] if they are no such JSON, or name what cannot be honoured here.
    pub(crate) fn filters(&self, known: &[&str]) -> Result<Filters, Error> {
        let filters = Filters::parse(self.get("filters").unwrap_or(""))?;
        match filters.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("Invalid filter '{key}': want one of {}", known.join(", ")))),
            None => Ok(filters),
        }
    }
}

impl Filters {
    /// Reads both of Docker's forms: `{"label":["a=b"]}` and `{"label":{"a=b":true}}`.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`] if it is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("invalid filters {text:?}: want JSON such as {{\"label\":[\"a=b\"]}}"));
        if text.is_empty() {
            return Ok(Self::default());
        }
        let filters: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| bad())?;
        let mut read = BTreeMap::new();
        for (key, values) in filters {
            let values: BTreeSet<String> = match values {
                Value::Array(values) => {
                    let text = |value: Value| value.as_str().map(str::to_owned).ok_or_else(bad);
                    values.into_iter().map(text).collect::<Result<_, _>>()?
                }
                Value::Object(values) => values
                    .into_iter()
                    .filter(|(_, wanted)| *wanted != Value::Bool(false))
                    .map(|(value, _)| value)
                    .collect(),
                _ => return Err(bad()),
            };
            if !values.is_empty() {
                read.insert(key, values);
            }
        }
        Ok(Self(read))
    }

    /// The filters without those of a key.
    pub(crate) fn without(&self, key: &str) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(known, _)| *known != key)
                .map(|(key, values)| (key.clone(), values.clone()))
                .collect(),
        )
    }

    /// The filters and one value more.
    pub(crate) fn with(&self, key: &str, value: &str) -> Self {
        let mut filters = self.0.clone();
        filters.entry(key.to_owned()).or_default().insert(value.to_owned());
        Self(filters)
    }

    /// The form that engines read.
    pub(crate) fn to_json(&self) -> String {
        serde_json::json!(self.0).to_string()
    }

    /// The values of that key; none if it is not filtered by.
    pub(crate) fn of(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether that key is filtered by.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether that key is not filtered by, or one of its values will do.
    pub(crate) fn any(&self, key: &str, will_do: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.of(key).any(will_do)
    }

    /// A filter that is true or false.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`] if it is neither.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.of(key).next() else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(Some(true)),
            "0" | "f" | "false" => Ok(Some(false)),
            _ => Err(Error::invalid(format!("Invalid filter '{key}={value}': want true or false"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Filters, Query};

    #[test]
    fn both_forms_of_filters_are_read() {
        let list = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        let map = Filters::parse(r#"{"label":{"a=b":true,"c":true,"d":false}}"#).unwrap();
        assert_eq!(list, map);
        assert!(Filters::parse("[]").is_err() && Filters::parse(r#"{"a":1}"#).is_err() && Filters::parse("{").is_err());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let query = Query::parse("filters=%7B%22colour%22%3A%5B%22red%22%5D%7D").unwrap();
        assert!(query.filters(&["label"]).unwrap_err().message.starts_with("Invalid filter 'colour'"));
    }

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        for (text, flag) in
            [("a=1", true), ("a=False", false), ("a=True", true), ("a=", false), ("a=none", false), ("b=1", false)]
        {
            assert_eq!(Query::parse(text).unwrap().flag("a"), flag, "{text}");
        }
        assert_eq!(Query::parse("n=-1").unwrap().number("n"), Ok(Some(-1)));
        assert!(Query::parse("n=x").unwrap().number("n").is_err());
        assert!(Query::parse("a=%ff").is_err());
    }
}
