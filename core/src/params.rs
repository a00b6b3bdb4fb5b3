//! Parameters of filters: declared once in a [`FilterSpec`](crate::FilterSpec), read from
//! whatever file format the caller has.

use std::collections::BTreeMap;

use crate::refusal::{Code, Reason};

/// What a parameter may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamKind {
    /// A finite number > 0.
    Positive,
    /// A whole number from 1 to 2^32 − 1.
    Count,
    /// Tensor names: exact, or globs with `*`, `?` and `[…]`; at least one.
    Names,
    /// A number of bytes: an integer, or text such as "2 GiB" or "1500 kB".
    Size,
    /// Free text.
    Text,
}

impl ParamKind {
    /// What to write, for messages and the reference.
    pub const fn expected(self) -> &'static str {
        match self {
            ParamKind::Positive => "a finite number above 0",
            ParamKind::Count => "a whole number above 0",
            ParamKind::Names => "a list of tensor names or globs, not empty",
            ParamKind::Size => "a number of bytes, or text such as \"2 GiB\"",
            ParamKind::Text => "text",
        }
    }
}

/// One parameter of a filter.
#[derive(Debug, Clone, Copy)]
pub struct ParamSpec {
    /// Its key in TOML.
    pub name: &'static str,
    /// What it may hold.
    pub kind: ParamKind,
    /// Whether it may be left out.
    pub optional: bool,
    /// What it means, with its unit.
    pub doc: &'static str,
}

/// A value as a file gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// Text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// Anything else.
    Other,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Count(u32),
    Names(Vec<String>),
    Size(u64),
    Text(String),
}

/// Parameters that satisfy their specs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params(BTreeMap<&'static str, Value>);

/// What is wrong with a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// There is no such parameter.
    #[error("`{0}` is no parameter of this filter")]
    Unknown(String),
    /// It may not be left out.
    #[error("`{0}` is missing: {1}")]
    Missing(&'static str, &'static str),
    /// It holds something else.
    #[error("`{0}` must be {1}")]
    Invalid(&'static str, &'static str),
}

impl Params {
    /// Takes one value for a filter.
    ///
    /// # Errors
    /// When the filter has no such parameter, or it may not hold this.
    pub fn set(
        &mut self,
        specs: &'static [ParamSpec],
        name: &str,
        raw: RawValue,
    ) -> Result<(), ParamError> {
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            return Err(ParamError::Unknown(name.to_owned()));
        };
        let value = match (spec.kind, raw) {
            (ParamKind::Positive, RawValue::Integer(n)) if n > 0 => Value::Number(n as f64),
            (ParamKind::Positive, RawValue::Float(x)) if x.is_finite() && x > 0.0 => {
                Value::Number(x)
            }
            (ParamKind::Count, RawValue::Integer(n)) if n > 0 => match u32::try_from(n) {
                Ok(count) => Value::Count(count),
                Err(_) => return Err(ParamError::Invalid(spec.name, spec.kind.expected())),
            },
            (ParamKind::Names, RawValue::Texts(names)) if !names.is_empty() => Value::Names(names),
            (ParamKind::Size, RawValue::Integer(n)) if n > 0 => Value::Size(n.unsigned_abs()),
            (ParamKind::Size, RawValue::Text(text)) => match parse_size(&text) {
                Some(bytes) => Value::Size(bytes),
                None => return Err(ParamError::Invalid(spec.name, spec.kind.expected())),
            },
            (ParamKind::Text, RawValue::Text(text)) => Value::Text(text),
            _ => return Err(ParamError::Invalid(spec.name, spec.kind.expected())),
        };
        self.0.insert(spec.name, value);
        Ok(())
    }

    /// Checks that nothing is missing.
    ///
    /// # Errors
    /// Names the first parameter that is.
    pub fn complete(&self, specs: &'static [ParamSpec]) -> Result<(), ParamError> {
        match specs.iter().find(|spec| !spec.optional && !self.0.contains_key(spec.name)) {
            Some(spec) => Err(ParamError::Missing(spec.name, spec.kind.expected())),
            None => Ok(()),
        }
    }

    /// A number, > 0.
    ///
    /// # Errors
    /// When it was not declared as one.
    pub fn number(&self, name: &str) -> Result<f64, Reason> {
        match self.0.get(name) {
            Some(Value::Number(x)) => Ok(*x),
            _ => Err(undeclared(name)),
        }
    }

    /// A whole number, > 0.
    ///
    /// # Errors
    /// When it was not declared as one.
    pub fn count(&self, name: &str) -> Result<u32, Reason> {
        match self.0.get(name) {
            Some(Value::Count(n)) => Ok(*n),
            _ => Err(undeclared(name)),
        }
    }

    /// Tensor names and globs.
    ///
    /// # Errors
    /// When they were not declared as such.
    pub fn names(&self, name: &str) -> Result<&[String], Reason> {
        match self.0.get(name) {
            Some(Value::Names(names)) => Ok(names),
            _ => Err(undeclared(name)),
        }
    }

    /// A number of bytes.
    ///
    /// # Errors
    /// When it was not declared as one.
    pub fn size(&self, name: &str) -> Result<u64, Reason> {
        match self.0.get(name) {
            Some(Value::Size(bytes)) => Ok(*bytes),
            _ => Err(undeclared(name)),
        }
    }

    /// Text, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

fn undeclared(name: &str) -> Reason {
    let detail = format!("parameter `{name}` is not declared in the filter's spec");
    Reason::new(Code::InvalidPolicy, detail)
}

/// Reads "2 GiB", "1500 kB", "64".
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[ParamSpec] = &[
        ParamSpec { name: "z", kind: ParamKind::Positive, optional: false, doc: "" },
        ParamSpec { name: "bytes", kind: ParamKind::Size, optional: true, doc: "" },
    ];

    #[test]
    fn numbers_must_be_positive_and_finite() {
        for bad in [
            RawValue::Float(f64::NAN),
            RawValue::Float(f64::INFINITY),
            RawValue::Float(0.0),
            RawValue::Integer(-1),
            RawValue::Text("4".into()),
        ] {
            assert!(Params::default().set(SPECS, "z", bad).is_err());
        }
        let mut params = Params::default();
        assert!(params.complete(SPECS).is_err());
        params.set(SPECS, "z", RawValue::Integer(4)).unwrap();
        assert_eq!(params.number("z").unwrap(), 4.0);
        assert!(params.complete(SPECS).is_ok());
        assert!(matches!(
            params.set(SPECS, "zz", RawValue::Integer(4)),
            Err(ParamError::Unknown(_))
        ));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("2 GiB"), Some(2 << 30));
        assert_eq!(parse_size("1500 kB"), Some(1_500_000));
        assert_eq!(parse_size("64"), Some(64));
        for bad in ["", "GiB", "2 gib", "-1", "0", "99999999999 GiB", "1.5 GiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
