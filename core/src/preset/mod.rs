//! What is known of a provider, kept as data: `presets/NAME/preset.toml` and its example payload.
//!
//! 1. [`find`] and [`all`] give the presets, read and checked once.
//! 2. [`configured`] gives one with the parameters of a source filled in.
//! 3. [`Preset::check`] holds what a provider asks for beyond its signature.
//! 4. [`Preset::event_type`], [`Preset::channel`] and [`Preset::dedup_key`] read a verified request.
//! 5. [`Preset::handshake`] answers a request that only proves who owns the URL.
//! 6. [`Vector::judge`] verifies a request of a file.
//! 7. [`Preset::sign_example`] makes a realistic signed request, for `bowline trigger`.

mod configure;
mod describe;
mod example;
mod handshake;
mod read;
mod vector;

#[cfg(test)]
mod challenges;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use http::HeaderName;

use crate::scheme::{CompiledScheme, JsonPointer, Scheme, SchemeError, Source};

pub use configure::ParameterError;
pub use describe::{
    Answer, Answers, CheckKind, Dedup, Description, Example, Handshake, HandshakeCheck, HandshakeReply,
    NamedSecret, Parameter,
};
pub use example::{ExampleError, SignedExample};
pub use handshake::{HandshakeAnswer, HandshakeSecrets};
pub use read::{MissingDedupKey, RequirementError};
pub use vector::{Vector, VectorRequest, VectorVerdict};

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
    "ably" with "example.json",
    "adyen-banking" with "example.json",
    "adyen-payments",
    "anthropic" with "example.json",
    "asana" with "example.json",
    "atlassian-connect" with "example.json",
    "auth0-log-stream" with "example.json",
    "aws-sns",
    "azure-event-grid",
    "bigcommerce" with "example.json",
    "bitbucket" with "example.json",
    "box" with "example.json",
    "braintree",
    "cal-com" with "example.json",
    "calendly" with "example.json",
    "chargebee" with "example.json",
    "checkout-com" with "example.json",
    "circleci" with "example.json",
    "clerk" with "example.json",
    "cloudevents-webhook" with "example.json",
    "cloudinary" with "example.json",
    "coinbase-commerce" with "example.json",
    "contentful" with "example.json",
    "datadog" with "example.json",
    "deepgram" with "example.json",
    "discord",
    "docusign" with "example.json",
    "dropbox" with "example.json",
    "dropbox-sign",
    "dwolla" with "example.json",
    "easypost" with "example.json",
    "elevenlabs" with "example.json",
    "fal-ai",
    "flutterwave" with "example.json",
    "fusionauth" with "example.json",
    "github-sha1-legacy" with "example.json",
    "gitlab-signing-token" with "example.json",
    "gitlab-token" with "example.json",
    "gocardless" with "example.json",
    "google-pubsub",
    "hasura" with "example.json",
    "heroku" with "example.json",
    "hubspot-v1" with "example.json",
    "hubspot-v2" with "example.json",
    "hubspot-v3" with "example.json",
    "intercom" with "example.json",
    "jira-websub" with "example.json",
    "lemonsqueezy" with "example.json",
    "line" with "example.json",
    "linear" with "example.json",
    "mailgun",
    "messagebird" with "example.json",
    "meta" with "example.json",
    "microsoft-graph",
    "mollie-classic",
    "mollie-next-gen" with "example.json",
    "mux" with "example.json",
    "netlify" with "example.json",
    "notion" with "example.json",
    "nylas" with "example.json",
    "okta" with "example.json",
    "openai" with "example.json",
    "paddle-billing" with "example.json",
    "paddle-classic",
    "pagerduty-v3" with "example.json",
    "patreon" with "example.json",
    "paypal",
    "paystack" with "example.json",
    "plaid",
    "plivo-v2" with "example.form",
    "plivo-v3" with "example.form",
    "polar" with "example.json",
    "postmark" with "example.json",
    "pusher" with "example.json",
    "quickbooks" with "example.json",
    "razorpay" with "example.json",
    "recurly" with "example.json",
    "replicate" with "example.json",
    "resend" with "example.json",
    "sanity" with "example.json",
    "sendgrid",
    "sentry" with "example.json",
    "shopify-events" with "example.json",
    "square" with "example.json",
    "strapi" with "example.json",
    "supabase-auth-hook" with "example.json",
    "supabase-db-webhook" with "example.json",
    "svix" with "example.json",
    "telegram" with "example.json",
    "telnyx",
    "trello" with "example.json",
    "twilio" with "example.form",
    "twilio-json",
    "twilio-sharedkey-sha256" with "example.form",
    "typeform" with "example.json",
    "vercel" with "example.json",
    "viber" with "example.json",
    "vonage" with "example.json",
    "webflow" with "example.json",
    "woocommerce" with "example.json",
    "workos" with "example.json",
    "x-twitter" with "example.json",
    "xero" with "example.json",
    "zendesk" with "example.json",
    "zoom" with "example.json",
    "custom",
];

static PRESETS: LazyLock<Vec<Arc<Preset>>> = LazyLock::new(|| {
    let read = |(text, example): &(&'static str, &'static str)| {
        // The files are part of the binary and a test reads each of them.
        let preset = Preset::read(text, example)
            .unwrap_or_else(|fault| panic!("a preset in this binary is broken: {fault}"));
        Arc::new(preset)
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
    /// The file, with its parameters open.
    text: &'static str,
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
    #[error("{name}: {}", joined(.faults))]
    Parameters { name: String, faults: Vec<ParameterError> },
}

fn joined(faults: &[ParameterError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Every preset, the best known first; parameters have their example values.
pub fn all() -> impl ExactSizeIterator<Item = &'static Preset> {
    PRESETS.iter().map(Arc::as_ref)
}

/// One by its name or an alias; parameters have their example values.
pub fn find(name: &str) -> Option<&'static Preset> {
    position(name).map(|at| PRESETS[at].as_ref())
}

/// The same with a source's own parameters; `None`: there is none of this name.
pub fn configured(
    name: &str,
    parameters: &BTreeMap<String, String>,
) -> Option<Result<Arc<Preset>, PresetError>> {
    let preset = &PRESETS[position(name)?];
    if parameters.is_empty() && preset.description.parameters.is_empty() {
        return Some(Ok(Arc::clone(preset)));
    }
    Some(preset.with_parameters(parameters).map(Arc::new))
}

fn position(name: &str) -> Option<usize> {
    static NAMES: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
        let mut names = HashMap::new();
        for (at, preset) in PRESETS.iter().enumerate() {
            let aliases = preset.description.aliases.iter().map(String::as_str);
            names.extend(aliases.chain([preset.name()]).map(|name| (name, at)));
        }
        names
    });
    NAMES.get(name).copied()
}

impl Preset {
    fn read(text: &'static str, payload: &'static str) -> Result<Self, PresetError> {
        Self::new(configure::with_examples(text)?, payload, text)
    }

    /// With every required parameter given.
    fn with_parameters(&self, parameters: &BTreeMap<String, String>) -> Result<Self, PresetError> {
        let fault = |faults| PresetError::Parameters { name: self.name().to_owned(), faults };
        let values = configure::values(&self.description.parameters, parameters).map_err(fault)?;
        Self::new(configure::fill(self.text, &values)?, self.payload, self.text)
    }

    fn new(description: Description, payload: &'static str, text: &'static str) -> Result<Self, PresetError> {
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
        let asked = handshakes.iter().flat_map(handshake::CompiledHandshake::named_secrets);
        if let Some(unknown) = asked.into_iter().find(|name| !description.secrets.contains_key(*name)) {
            return Err(field(format!(
                "its handshake asks for a secret `{unknown}` that it does not describe"
            )));
        }
        let mut pointers: Vec<JsonPointer> = Vec::new();
        let dedup = description.dedup.sources.iter().chain(&description.dedup.with);
        let own = description.event_type.iter().chain(&description.channel).chain(dedup);
        let own = own.filter_map(Source::as_json);
        let scheme_pointers = scheme.as_deref().map(CompiledScheme::pointers).unwrap_or_default();
        let handshake_pointers = handshakes.iter().flat_map(handshake::CompiledHandshake::pointers);
        for pointer in own.chain(scheme_pointers).chain(handshake_pointers) {
            if !pointers.contains(pointer) {
                pointers.push(pointer.clone());
            }
        }
        Ok(Self { description, scheme, require_headers, pointers, handshakes, payload, text })
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

    /// How many payloads of a source keep their bodies; `None`: as retention has it.
    pub fn max_stored_payloads(&self) -> Option<u32> {
        self.description.max_stored_payloads
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
