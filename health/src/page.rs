//! The page of metrics as it is at one moment: families of samples, rendered by prometheus-client.

use std::fmt;

use controlplane_core::RoundTrips;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};

/// Names and values of the labels of one sample.
pub type Labels = Vec<(&'static str, String)>;

/// All metrics of a program at one moment.
#[derive(Debug)]
pub struct Page {
    prefix: &'static str,
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    Counters(Vec<(Labels, u64)>),
    Gauges(Vec<(Labels, i64)>),
    Histograms(Vec<(Labels, RoundTrips)>),
    Info(Labels),
}

impl Page {
    /// One whose names begin with `prefix` and an underscore.
    #[must_use]
    pub const fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            families: Vec::new(),
        }
    }

    /// Adds facts that do not change; the name is shown with `_info` at its end.
    pub fn info(&mut self, name: &'static str, help: &'static str, facts: Labels) {
        self.add(name, help, Samples::Info(facts));
    }

    /// Adds gauges.
    pub fn gauges(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, i64)>) {
        self.add(name, help, Samples::Gauges(samples));
    }

    /// Adds counters; the name is shown with `_total` at its end.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: Vec<(Labels, u64)>,
    ) {
        self.add(name, help, Samples::Counters(samples));
    }

    /// Adds histograms, in seconds.
    pub fn round_trips(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: Vec<(Labels, RoundTrips)>,
    ) {
        self.add(name, help, Samples::Histograms(samples));
    }

    fn add(&mut self, name: &'static str, help: &'static str, samples: Samples) {
        self.families.push(Family {
            name,
            help,
            samples,
        });
    }

    /// The page as text.
    #[must_use]
    pub fn text(self) -> String {
        let mut registry = Registry::with_prefix(self.prefix);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = self.families.iter();
        families.try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match &self.samples {
            Samples::Counters(_) => MetricType::Counter,
            Samples::Gauges(_) => MetricType::Gauge,
            Samples::Histograms(_) => MetricType::Histogram,
            Samples::Info(_) => MetricType::Info,
        };
        let mut encoder = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        match &self.samples {
            Samples::Counters(samples) => each(&mut encoder, samples, |encoder, value| {
                ConstCounter::new(*value).encode(encoder)
            }),
            Samples::Gauges(samples) => each(&mut encoder, samples, |encoder, value| {
                ConstGauge::new(*value).encode(encoder)
            }),
            Samples::Histograms(samples) => each(&mut encoder, samples, histogram),
            Samples::Info(facts) => Info::new(facts.clone()).encode(encoder),
        }
    }
}

fn each<T>(
    encoder: &mut MetricEncoder<'_>,
    samples: &[(Labels, T)],
    encode: impl Fn(MetricEncoder<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (labels, value) in samples {
        encode(encoder.encode_family(labels)?, value)?;
    }
    Ok(())
}

fn histogram(mut encoder: MetricEncoder<'_>, trips: &RoundTrips) -> fmt::Result {
    let bounds = RoundTrips::BOUNDS.map(|ms| ms as f64 / 1000.0);
    let bounds = bounds.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(trips.buckets).collect();
    let count = trips.buckets.iter().sum();
    let sum = trips.total.as_secs_f64();
    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_open_metrics_text() {
        let mut page = Page::new("it");
        let odd = "a \"b\"\\\n".to_owned();
        page.info("build", "What.", vec![("version", "1".into())]);
        page.gauges("open", "Now.", vec![(vec![], -1)]);
        page.counters("things", "So far.", vec![(vec![("name", odd)], 7)]);
        let mut trips = RoundTrips::default();
        (trips.buckets[0], trips.buckets[12]) = (2, 1);
        trips.total = std::time::Duration::from_millis(1500);
        page.round_trips("took_seconds", "Each.", vec![(vec![], trips)]);
        let text = page.text();
        for line in [
            "# TYPE it_build info",
            "it_build_info{version=\"1\"} 1",
            "# HELP it_open Now.",
            "it_open -1",
            "# TYPE it_things counter",
            r#"it_things_total{name="a \"b\"\\\n"} 7"#,
            "it_took_seconds_sum 1.5",
            "it_took_seconds_count 3",
            "it_took_seconds_bucket{le=\"0.001\"} 2",
            "it_took_seconds_bucket{le=\"20.0\"} 2",
            "it_took_seconds_bucket{le=\"+Inf\"} 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
