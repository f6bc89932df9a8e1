//! Metrics, what they are held against, and how they are shown.

use serde::Serialize;

/// What a metric must be to be good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Budget {
    AtLeast(f64),
    AtMost(f64),
    /// The same, for the ratio to the limit.
    RatioAtLeast(f64),
    RatioAtMost(f64),
}

/// One number of a scenario, measured in several rounds.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
    limit_rounds: Vec<f64>,
    budgets: Vec<Budget>,
}

impl Metric {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, rounds: Vec<f64>) -> Self {
        Self { name: name.into(), unit, rounds, limit_rounds: Vec::new(), budgets: Vec::new() }
    }

    /// What the machine itself does under the same load, or what this is compared with.
    pub(crate) fn against(mut self, limit_rounds: &[f64]) -> Self {
        self.limit_rounds = limit_rounds.to_vec();
        self
    }

    pub(crate) fn budget(mut self, budget: Budget) -> Self {
        self.budgets.push(budget);
        self
    }

    pub(crate) fn summary(&self) -> Summary {
        let value = median(&self.rounds);
        let limit = (!self.limit_rounds.is_empty()).then(|| median(&self.limit_rounds));
        let ratio = limit.filter(|limit| *limit > 0.0).map(|limit| value / limit);
        let met = |budget: &Budget| match *budget {
            Budget::AtLeast(bound) => Some(value >= bound),
            Budget::AtMost(bound) => Some(value <= bound),
            Budget::RatioAtLeast(bound) => ratio.map(|ratio| ratio >= bound),
            Budget::RatioAtMost(bound) => ratio.map(|ratio| ratio <= bound),
        };
        let budgets: Vec<String> = self.budgets.iter().map(|budget| budget.text()).collect();
        Summary {
            name: self.name.clone(),
            value,
            unit: self.unit,
            limit,
            ratio,
            budget: (!budgets.is_empty()).then(|| budgets.join(", ")),
            met: self.budgets.iter().map(met).reduce(|one, other| Some(one? && other?)).flatten(),
            spread: spread(&self.rounds),
        }
    }
}

impl Budget {
    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {}", number(bound)),
            Self::AtMost(bound) => format!("<= {}", number(bound)),
            Self::RatioAtLeast(bound) => format!(">= {bound:.2} x"),
            Self::RatioAtMost(bound) => format!("<= {bound:.2} x"),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<f64>,
    ratio: Option<f64>,
    budget: Option<String>,
    met: Option<bool>,
    /// The farthest round, as a share of the median; shown only.
    #[serde(skip)]
    spread: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) metrics: Vec<Summary>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) commit: String,
    pub(crate) scenarios: Vec<Scenario>,
}

impl Scenario {
    /// A table; its columns are as wide as they must be.
    pub(crate) fn table(&self) -> String {
        let head = ["", "median", "spread", "unit", "limit", "ratio", "budget", "met"].map(str::to_owned);
        let mut rows = vec![head];
        self.name.clone_into(&mut rows[0][0]);
        rows.extend(self.metrics.iter().map(Summary::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..8).map(width).collect();
        let line = |row: &[String; 8]| {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let pad = " ".repeat(widths[column] - cell.chars().count());
                let is_number = matches!(column, 1 | 2 | 4 | 5);
                if is_number { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(|row| line(row) + "\n").collect()
    }

    pub(crate) fn missed(&self) -> usize {
        self.metrics.iter().filter(|metric| metric.met == Some(false)).count()
    }
}

impl Summary {
    fn cells(&self) -> [String; 8] {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        [
            format!("  {}", self.name),
            number(self.value),
            self.spread.map(|share| format!("±{:.0} %", share * 100.0)).unwrap_or_default(),
            self.unit.to_owned(),
            self.limit.map(number).unwrap_or_default(),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.budget.clone().unwrap_or_default(),
            met.to_owned(),
        ]
    }
}

fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// One round has no spread.
fn spread(rounds: &[f64]) -> Option<f64> {
    let middle = median(rounds);
    let farthest = rounds.iter().map(|round| (round - middle).abs()).fold(0.0, f64::max);
    (rounds.len() > 1 && middle > 0.0).then(|| farthest / middle)
}

/// Three digits that matter, and thousands apart.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let groups: Vec<&str> = whole
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{rest}", groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_its_median_and_held_against_all_its_budgets() {
        let metric = Metric::new("rate", "/s", vec![30.0, 10.0, 20.0]).against(&[40.0, 60.0]);
        let summary =
            metric.clone().budget(Budget::RatioAtLeast(0.4)).budget(Budget::AtLeast(20.0)).summary();
        assert_eq!((summary.value, summary.limit, summary.ratio), (20.0, Some(50.0), Some(0.4)));
        assert_eq!((summary.met, summary.spread), (Some(true), Some(0.5)));
        let missed = metric.clone().budget(Budget::AtLeast(20.0)).budget(Budget::AtMost(19.9)).summary();
        assert_eq!(missed.met, Some(false));
        assert_eq!(missed.budget.as_deref(), Some(">= 20.0, <= 19.9"));
        assert_eq!(metric.summary().met, None);
    }

    #[test]
    fn the_json_has_exactly_the_promised_keys() {
        let metrics = vec![Metric::new("m", "ms", vec![1.5]).summary()];
        let scenarios = vec![Scenario { name: "s", metrics }];
        let report = Report { machine: "here".into(), commit: "c".into(), scenarios };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"machine":"here","commit":"c","scenarios":[{"name":"s","metrics":[{"name":"m","value":1.5,"unit":"ms","limit":null,"ratio":null,"budget":null,"met":null}]}]}"#
        );
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [1_234_567.0, 123.4, 12.34, 1.234, 0.0, -1234.0].map(number),
            ["1,234,567", "123", "12.3", "1.23", "0.00", "-1,234"]
        );
    }
}
