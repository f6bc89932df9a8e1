//! What is known of a provider, kept as data: `presets/NAME/preset.toml` and its example payload.
//!
//! 1. [`find`] and [`all`] give the presets, read and checked once.
//! 2. [`Preset::check`] holds what a provider asks for beyond its signature.
//! 3. [`Preset::event_type`], [`Preset::channel`] and [`Preset::dedup_key`] read a verified request.
//! 4. [`Preset::handshake`] answers a request that only proves who owns the URL.
//! 5. [`Preset::sign_example`] makes a realistic signed request, for `bowline trigger`.

mod describe;
mod example;
mod handshake;
mod read;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use http::HeaderName;

use crate::scheme::{CompiledScheme, JsonPointer, Scheme, SchemeError, Source};

pub use describe::{Answer, Answers, Dedup, Description, Example, Handshake, HandshakeReply};
pub use example::{ExampleError, SignedExample};
pub use handshake::HandshakeAnswer;
pub use read::{MissingDedupKey, RequirementError};

/// Name of the preset that stands for none: the source brings its own scheme.
pub const CUSTOM: &str = "custom";

/// A file of the tree, part of the binary: description and example payload.
macro_rules! files {
    ($($name:literal $(with $example:literal)?),* $(,)?) => {
        &[$((
            include_str!(concat!("../../presets/", $name, "/preset.toml")),
            files!(@example $name $($example)?),
        )),*]
    };
    (@example $name:literal $example:literal) => {
        include_str!(concat!("../../presets/", $name, "/", $example))
    };
    (@example $name:literal) => { "" };
}

const FILES: &[(&str, &str)] = files![
    "standard" with "example.json",
    "github" with "example.json",
    "stripe" with "example.json",
    "shopify" with "example.json",
    "slack" with "example.json",
    "chimpbase" with "example.json",
    "rkt" with "example.json",
    "chatbase" with "example.json",
    "connectgain" with "example.json",
    "chatblocks" with "example.json",
    "custom",
];

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let read = |(text, example): &(&str, &'static str)| {
        // The files are part of the binary and a test reads each of them.
        Preset::read(text, example)
            .unwrap_or_else(|fault| panic!("a preset in this binary is broken: {fault}"))
    };
    FILES.iter().map(read).collect()
});

/// A provider's description, checked and ready.
#[derive(Debug)]
pub struct Preset {
    description: Description,
    scheme: Option<Arc<CompiledScheme>>,
    require_headers: Vec<HeaderName>,
    pointers: Vec<JsonPointer>,
    handshakes: Vec<handshake::CompiledHandshake>,
    payload: &'static str,
}

/// Why the text of a preset is none.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    #[error("{name}: {fault}")]
    Scheme { name: String, fault: SchemeError },
    #[error("{name}: {problem}")]
    Field { name: String, problem: String },
}

/// Every preset, in the order people look for them.
pub fn all() -> &'static [Preset] {
    &PRESETS
}

pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name() == name)
}

impl Preset {
    fn read(text: &str, payload: &'static str) -> Result<Self, PresetError> {
        let description: Description = toml::from_str(text)?;
        let name = || description.name.clone();
        let field = |problem: String| PresetError::Field { name: name(), problem };
        let scheme = description
            .scheme
            .as_ref()
            .map(Scheme::compile)
            .transpose()
            .map_err(|fault| PresetError::Scheme { name: name(), fault })?
            .map(Arc::new);
        let require_headers = description
            .require_headers
            .iter()
            .map(|header| header.parse().map_err(|_| field(format!("`{header}` is no header name"))))
            .collect::<Result<Vec<HeaderName>, _>>()?;
        let handshakes = description
            .handshakes
            .iter()
            .map(|handshake| handshake.compile().map_err(&field))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<JsonPointer> = Vec::new();
        let sources =
            description.event_type.iter().chain(&description.channel).chain(&description.dedup.sources);
        let own = sources.filter_map(|source| match source {
            Source::Json(pointer) => Some(pointer),
            Source::Header(_) | Source::Query(_) => None,
        });
        let scheme_pointers = scheme.as_deref().map(CompiledScheme::pointers).unwrap_or_default();
        let handshake_pointers = handshakes.iter().flat_map(handshake::CompiledHandshake::pointers);
        for pointer in own.chain(scheme_pointers).chain(handshake_pointers) {
            if !pointers.contains(pointer) {
                pointers.push(pointer.clone());
            }
        }
        Ok(Self { description, scheme, require_headers, pointers, handshakes, payload })
    }

    pub fn name(&self) -> &str {
        &self.description.name
    }

    pub fn display_name(&self) -> &str {
        &self.description.display_name
    }

    /// The provider's page on its signatures, where there is one.
    pub fn docs_url(&self) -> Option<&str> {
        self.description.docs_url.as_deref()
    }

    /// None for `custom` alone.
    pub fn scheme(&self) -> Option<&CompiledScheme> {
        self.scheme.as_deref()
    }

    /// The same, to keep beyond the preset's borrow.
    pub fn shared_scheme(&self) -> Option<Arc<CompiledScheme>> {
        self.scheme.clone()
    }

    /// A larger body is refused before more of it is read.
    pub fn body_limit_bytes(&self) -> u64 {
        self.description.body_limit_bytes
    }

    pub fn answers(&self) -> &Answers {
        &self.description.answers
    }

    /// The `json:` values this preset reads; give them to
    /// [`crate::scheme::InboundRequest::with_pointers`].
    pub fn pointers(&self) -> &[JsonPointer] {
        &self.pointers
    }

    /// The whole description, for listing.
    pub fn description(&self) -> &Description {
        &self.description
    }

    pub fn example(&self) -> Option<&Example> {
        self.description.example.as_ref()
    }
}
