//! A bar while it works; silent where nobody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    scenario: std::cell::RefCell<&'static str>,
}

impl Progress {
    pub(crate) fn new(scenarios: usize) -> Self {
        // Drawn on standard error, and only where that is a terminal.
        let bar = ProgressBar::new(scenarios as u64);
        let style = ProgressStyle::with_template("{elapsed_precise} {bar:20} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(TICK);
        Self { bar, scenario: "".into() }
    }

    pub(crate) fn begin(&self, scenario: &'static str) {
        *self.scenario.borrow_mut() = scenario;
        self.step("starting");
    }

    pub(crate) fn step(&self, what: impl AsRef<str>) {
        self.bar.set_message(format!("{}: {}", self.scenario.borrow(), what.as_ref()));
    }

    /// Shows a finished scenario above the bar.
    pub(crate) fn end(&self, table: &str) {
        self.bar.inc(1);
        self.bar.suspend(|| println!("{table}"));
    }

    /// Says something above the bar, besides the results.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
