//! `bowline verify`: what the presets, or a scheme of one's own, say of signed requests in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use bowline_core::preset::{Vector, VectorVerdict};
use bowline_core::scheme::{CompiledScheme, Scheme};
use clap::Args;
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::failure::Failure;
use crate::output;

/// A description of a signature takes a screen.
const SCHEME_BYTES_MAX: u64 = 64 * 1024;
/// A file may hold any number.
const UNEXPECTED_NAMED_MAX: usize = 20;

pub const HELP: &str =
    "The file is a JSON array of objects with `id`, `scheme` (the name of a preset), `request`
{method, url, headers [[name, value]], body_b64}, `secrets` as a user pastes them, and `now`, the clock
in unix seconds; `parameters` of the preset and `expected` (valid, invalid or either) may be there too.
For each vector one line of JSON: {\"id\", \"verdict\": \"valid|invalid|error\", \"reason\"}. An error is a
vector that could not be judged. Nothing is sent or fetched.

Exit status: 0 every vector was judged, 1 one was not (or, with --check, one is not as expected) or the
file cannot be read, 2 wrong usage, 64 a scheme file is wrong.

Examples:
  bowline verify --vectors vectors.json
  bowline verify --vectors mine.json --scheme mine=scheme.toml --check";

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The file of vectors; `-` is standard input
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,
    /// For vectors of this scheme, a description in TOML or JSON in place of a preset; repeat it for more
    #[arg(long = "scheme", value_name = "NAME=FILE", value_parser = super::key_value)]
    schemes: Vec<(String, String)>,
    /// Fail if a verdict is not the vector's `expected`
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    verdict: &'static str,
    reason: &'a str,
}

/// What the vectors came to.
#[derive(Debug, Default)]
struct Tally {
    vectors: usize,
    errors: usize,
    unexpected: usize,
    /// Ids of the first of those.
    unexpected_ids: Vec<String>,
}

impl Tally {
    fn note_unexpected(&mut self, id: &str) {
        self.unexpected += 1;
        if self.unexpected_ids.len() < UNEXPECTED_NAMED_MAX {
            let place = format!("vector {} of the file", self.vectors);
            self.unexpected_ids.push(if id.is_empty() { place } else { output::printable(id) });
        }
    }

    /// `a, b and 7 more`
    fn unexpected_named(&self) -> String {
        let named = self.unexpected_ids.join(", ");
        match self.unexpected - self.unexpected_ids.len() {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

/// # Errors
/// When the file is none of vectors, or one of them could not be judged or was not as expected.
pub fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let schemes = arguments.schemes.iter().map(read_scheme).collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let path = arguments.vectors.display();
    let unreadable = |error: io::Error| Failure::Other(anyhow::anyhow!("{path}: {error}"));
    let input: Box<dyn Read> = if arguments.vectors.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&arguments.vectors).map_err(unreadable)?)
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let tally = judge(BufReader::new(input), &schemes, &mut output);
    // What was judged before the file broke is worth showing.
    output.flush().map_err(|error| Failure::Other(error.into()))?;
    let tally = tally.map_err(|error| Failure::Other(anyhow::anyhow!("{path}: {error}")))?;
    let unexpected = if arguments.check { tally.unexpected } else { 0 };
    match (tally.errors, unexpected) {
        (0, 0) => Ok(()),
        (errors, 0) => {
            Err(Failure::Answer(format!("{errors} of {} vectors could not be judged", tally.vectors)))
        }
        (_, unexpected) => {
            let (of, named) = (tally.vectors, tally.unexpected_named());
            Err(Failure::Answer(format!("{unexpected} of {of} verdicts are not as expected: {named}")))
        }
    }
}

fn read_scheme((name, path): &(String, String)) -> Result<(String, CompiledScheme), Failure> {
    let wrong = |problem: &dyn fmt::Display| Failure::Configuration(format!("{path}: {problem}"));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| wrong(&error))?;
    file.take(SCHEME_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    let scheme: Scheme = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| wrong(&error))?
    } else {
        toml::from_str(&text).map_err(|error| wrong(&error))?
    };
    Ok((name.clone(), scheme.compile().map_err(|error| wrong(&error))?))
}

/// One vector is held at a time, however many there are.
fn judge(
    input: impl Read,
    schemes: &BTreeMap<String, CompiledScheme>,
    output: &mut impl Write,
) -> Result<Tally, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(input);
    let tally = Vectors { schemes, output }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(tally)
}

struct Vectors<'a, W> {
    schemes: &'a BTreeMap<String, CompiledScheme>,
    output: &'a mut W,
}

impl<'de, W: Write> DeserializeSeed<'de> for Vectors<'_, W> {
    type Value = Tally;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tally, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, W: Write> Visitor<'de> for Vectors<'_, W> {
    type Value = Tally;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of vectors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tally, A::Error> {
        let mut tally = Tally::default();
        while let Some(value) = list.next_element::<serde_json::Value>()? {
            tally.vectors += 1;
            let id = value.get("id").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            let (verdict, expected) = match serde_json::from_value::<Vector>(value) {
                Ok(vector) => {
                    let own = self.schemes.get(&vector.scheme);
                    (own.map_or_else(|| vector.judge(), |scheme| vector.judge_by(scheme)), vector.expected)
                }
                // Its place is of more use than nothing where there is no id.
                Err(error) => {
                    let problem = format!("vector {} of the file: {error}", tally.vectors);
                    (VectorVerdict::Error(problem), None)
                }
            };
            let (verdict, reason) = match &verdict {
                VectorVerdict::Valid => ("valid", ""),
                VectorVerdict::Invalid(reason) => ("invalid", reason.as_str()),
                VectorVerdict::Error(problem) => ("error", problem.as_str()),
            };
            tally.errors += usize::from(verdict == "error");
            if expected.is_some_and(|expected| expected != verdict && expected != "either") {
                tally.note_unexpected(&id);
            }
            let line = serde_json::to_string(&Line { id: &id, verdict, reason })
                .map_err(serde::de::Error::custom)?;
            writeln!(self.output, "{line}").map_err(serde::de::Error::custom)?;
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str) -> (Vec<String>, Result<Tally, serde_json::Error>) {
        let mut output = Vec::new();
        let tally = judge(json.as_bytes(), &BTreeMap::new(), &mut output);
        (String::from_utf8(output).unwrap().lines().map(str::to_owned).collect(), tally)
    }

    /// `docs.github.com`, "Validating webhook deliveries".
    const GITHUB: &str = r#"{"id":"a","scheme":"github","expected":"valid","secrets":["It's a Secret to Everybody"],"now":0,
        "request":{"method":"POST","url":"https://hooks.example.com/in","body_b64":"SGVsbG8sIFdvcmxkIQ==",
        "headers":[["X-Hub-Signature-256","sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"]]}}"#;

    #[test]
    fn each_vector_has_its_line() {
        let other = GITHUB.replace("SGVsbG8sIFdvcmxkIQ==", "SGVsbG8=").replace("\"a\"", "\"b\"");
        let unknown = GITHUB.replace("\"github\"", "\"nobody\"");
        let (lines, tally) = lines(&format!("[{GITHUB},{other},{unknown},{{\"id\":\"d\"}}]"));
        assert_eq!(lines[0], r#"{"id":"a","verdict":"valid","reason":""}"#);
        assert!(
            lines[1].starts_with(r#"{"id":"b","verdict":"invalid","reason":"signature_mismatch: "#),
            "{}",
            lines[1]
        );
        assert_eq!(lines[2], r#"{"id":"a","verdict":"error","reason":"there is no preset `nobody`"}"#);
        assert!(
            lines[3]
                .starts_with(r#"{"id":"d","verdict":"error","reason":"vector 4 of the file: missing field"#),
            "{}",
            lines[3]
        );
        let tally = tally.unwrap();
        assert_eq!((tally.vectors, tally.errors, tally.unexpected), (4, 2, 2));
    }

    #[test]
    fn those_that_are_not_as_expected_are_named_up_to_a_bound() {
        let other = GITHUB.replace("SGVsbG8sIFdvcmxkIQ==", "SGVsbG8=");
        let nameless = other.replace("\"a\"", "\"\"");
        let tally = lines(&format!("[{other},{GITHUB},{nameless}]")).1.unwrap();
        assert_eq!(tally.unexpected_named(), "a, vector 3 of the file");
        let many = vec![other.as_str(); UNEXPECTED_NAMED_MAX + 3].join(",");
        assert!(lines(&format!("[{many}]")).1.unwrap().unexpected_named().ends_with(", a and 3 more"));
    }

    #[test]
    fn a_broken_file_shows_what_came_before() {
        let (lines, tally) = lines(&format!("[{GITHUB},"));
        assert_eq!(lines.len(), 1);
        assert!(tally.unwrap_err().to_string().contains("EOF"));
        assert!(self::lines("{}").1.unwrap_err().to_string().contains("an array of vectors"));
    }
}
