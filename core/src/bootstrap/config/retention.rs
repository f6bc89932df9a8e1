//! `[retention]`: for how long what is kept.

use std::time::Duration;

use super::read::Section;
use super::sections::{MINUTE, SECOND};
use crate::defaults;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// Events, their deliveries, rejections, and operations that have ended: 30 days, from 1 to 3,650. What
    /// waits or is a dead letter stays. A tenant may have less.
    pub events: Duration,
    /// Who did what, and every unsealing: 400 days, from 1 to 3,650.
    pub audit: Duration,
    /// How often the janitor looks: 1 min.
    pub janitor_period: Duration,
    /// A day that was taken off its table is dropped after this: 1 h. Until then what somebody begins to
    /// need of it is still copied.
    pub dropped_after: Duration,
}

impl RetentionConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            events: section.duration("events", defaults::RETENTION, DAY..=3650 * DAY),
            audit: section.duration("audit", defaults::AUDIT_RETENTION, DAY..=3650 * DAY),
            janitor_period: section.duration("janitor_period", MINUTE, SECOND / 10..=60 * MINUTE),
            dropped_after: section.duration("dropped_after", 60 * MINUTE, Duration::ZERO..=DAY),
        }
    }
}
