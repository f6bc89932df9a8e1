//! The properties over the seeds and a fixed number of inputs made of them: a few seconds, the same each
//! time.

use bowline_fuzz::{cel_inputs, generate, http_edge, scheme_files, signature_headers};

/// Shows itself when it is what a property did not hold for.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn run(seeds: &[&[u8]], words: &[&str], count: usize, check: fn(&[u8])) {
    for input in generate::inputs(seeds, words, count) {
        let shown = Shown(&input);
        check(shown.0);
    }
}

#[test]
fn what_was_not_signed_is_not_accepted() {
    assert!(signature_headers::cases() > 80, "{} presets", signature_headers::cases());
    run(signature_headers::SEEDS, signature_headers::WORDS, 20_000, signature_headers::check);
}

#[test]
fn a_scheme_is_read_as_it_was_written_or_refused_by_its_field() {
    run(scheme_files::SEEDS, scheme_files::WORDS, 4000, scheme_files::check);
}

#[test]
fn an_expression_is_bounded_and_silent() {
    run(cel_inputs::SEEDS, cel_inputs::WORDS, 1500, cel_inputs::check);
}

#[test]
fn the_edge_sees_no_more_requests_than_were_sent() {
    run(http_edge::SEEDS, http_edge::WORDS, 1500, http_edge::check);
}
