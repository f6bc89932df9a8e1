//! Fills a source's parameters into the file of a preset, before anything of it is read.

use std::collections::BTreeMap;

use super::PresetError;
use super::describe::{Description, Parameter};

const PARAMETER_BYTES_MAX: usize = 512;

/// Why the parameters of a source do not fit its preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    #[error("the parameter `{name}` is needed: {description}")]
    Missing { name: String, description: String },
    #[error("there is no parameter `{name}`; {known}")]
    Unknown { name: String, known: String },
    #[error(
        "the parameter `{name}` must be 1 to {PARAMETER_BYTES_MAX} bytes of printable ASCII without braces"
    )]
    Value { name: String },
}

impl ParameterError {
    /// The parameter it is about.
    pub fn name(&self) -> &str {
        match self {
            Self::Missing { name, .. } | Self::Unknown { name, .. } | Self::Value { name } => name,
        }
    }
}

type Values = BTreeMap<String, String>;

/// A value for each parameter, or all that is wrong.
pub(super) fn values(
    known: &BTreeMap<String, Parameter>,
    given: &Values,
) -> Result<Values, Vec<ParameterError>> {
    let mut faults: Vec<ParameterError> =
        given.iter().filter_map(|(name, value)| fault_of(known, name, value)).collect();
    let mut values = Values::new();
    for (name, parameter) in known {
        match given.get(name).or(parameter.default.as_ref()) {
            Some(value) => drop(values.insert(name.clone(), value.clone())),
            None => faults.push(ParameterError::Missing {
                name: name.clone(),
                description: parameter.description.clone(),
            }),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

fn fault_of(known: &BTreeMap<String, Parameter>, name: &str, value: &str) -> Option<ParameterError> {
    if !known.contains_key(name) {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let known = if names.is_empty() {
            "this preset has none".to_owned()
        } else {
            format!("known: {}", names.join(", "))
        };
        return Some(ParameterError::Unknown { name: name.to_owned(), known });
    }
    let printable = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'{' && byte != b'}';
    let fits = !value.is_empty() && value.len() <= PARAMETER_BYTES_MAX && value.bytes().all(printable);
    (!fits).then(|| ParameterError::Value { name: name.to_owned() })
}

/// The description with its examples, and its defaults where it has none.
pub(super) fn with_examples(text: &str) -> Result<Description, PresetError> {
    #[derive(serde::Deserialize)]
    struct Parameters {
        #[serde(default)]
        parameters: BTreeMap<String, Parameter>,
    }
    let Parameters { parameters } = toml::from_str(text)?;
    let values = parameters
        .into_iter()
        .map(|(name, parameter)| (name, parameter.example.or(parameter.default).unwrap_or_default()))
        .collect();
    fill(text, &values)
}

/// The description with `{parameter:NAME}` replaced in every text, names of members too.
pub(super) fn fill(text: &str, values: &Values) -> Result<Description, PresetError> {
    if values.is_empty() {
        return Ok(toml::from_str(text)?);
    }
    let table: toml::Value = toml::from_str(text)?;
    Ok(replace(table, values).try_into()?)
}

fn replace(value: toml::Value, values: &Values) -> toml::Value {
    let text = |text: String| {
        values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{parameter:{name}}}"), value))
    };
    match value {
        toml::Value::String(one) => toml::Value::String(text(one)),
        toml::Value::Array(list) => {
            toml::Value::Array(list.into_iter().map(|one| replace(one, values)).collect())
        }
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(name, one)| (text(name), replace(one, values)))
            .collect::<toml::Table>()
            .into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_given_or_have_a_default() {
        let parameter = |default: Option<&str>| Parameter {
            description: "which".into(),
            default: default.map(str::to_owned),
            example: None,
        };
        let known =
            BTreeMap::from([("a".to_owned(), parameter(None)), ("b".to_owned(), parameter(Some("2")))]);
        let given = |list: &[(&str, &str)]| -> Values {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(values(&known, &given(&[("a", "1")])), Ok(given(&[("a", "1"), ("b", "2")])));
        let faults = |list: &[(&str, &str)]| -> Vec<(bool, String)> {
            let faults = values(&known, &given(list)).unwrap_err();
            faults
                .iter()
                .map(|fault| (matches!(fault, ParameterError::Value { .. }), fault.name().to_owned()))
                .collect()
        };
        assert_eq!(faults(&[]), [(false, "a".into())]);
        assert_eq!(
            faults(&[("c", "1"), ("b", "")]),
            [(true, "b".into()), (false, "c".into()), (false, "a".into())]
        );
        for bad in ["", "{body}", "a\nb", &"x".repeat(513)] {
            assert_eq!(faults(&[("a", bad)]), [(true, "a".into())], "{bad}");
        }
    }
}
