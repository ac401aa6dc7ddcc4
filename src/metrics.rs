//! Numbers for whoever watches the broker: counters and histograms, and the text that Prometheus reads.
//!
//! To count is to add to an atomic number: no lock, and no memory that grows. Labels are names of the source or of the
//! catalog, never ids, so there is an end to them. The crates for this keep label values in maps behind locks, or write
//! another format than `promtool` checks; what is needed of them is less than what it takes to use one.
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

pub mod process;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something took how long. `N` is the number of bounds, in microseconds and growing; see [`Histogram::new`].
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// For each bound, how often it was the first that was not passed.
    within: [Counter; N],
    longer: Counter,
    micros: AtomicU64,
}

/// Of what takes no time to speak of, as a request or a commit: half a millisecond to ten seconds.
pub const SHORT: [u64; 11] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];
/// Of what may take its time, as an operation: ten milliseconds to two hours.
pub const LONG: [u64; 10] = [
    10_000,
    100_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    1_800_000_000,
    7_200_000_000,
];

impl<const N: usize> Histogram<N> {
    pub const fn new(bounds: &'static [u64; N]) -> Histogram<N> {
        Histogram {
            bounds,
            within: [const { Counter::new() }; N],
            longer: Counter::new(),
            micros: AtomicU64::new(0),
        }
    }

    pub fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound);
        bucket
            .map_or(&self.longer, |bucket| &self.within[bucket])
            .add();
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// The text that Prometheus reads, in the making.
#[derive(Default)]
pub struct Text(String);

/// A name and a value. Values are escaped when they are written.
pub type Label<'a> = (&'static str, &'a str);

impl Text {
    /// The media type of the text.
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a metric that only grows. Its samples come next.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.begin(name, help, "counter")
    }

    /// Begins a metric that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.begin(name, help, "gauge")
    }

    /// Begins a metric of durations.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.begin(name, help, "histogram")
    }

    fn begin(&mut self, name: &'static str, help: &str, kind: &str) -> Metric<'_> {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric {
            text: &mut self.0,
            name,
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// A metric whose samples are being written.
pub struct Metric<'t> {
    text: &'t mut String,
    name: &'static str,
}

impl Metric<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl std::fmt::Display) {
        self.line("", labels, None, value);
    }

    /// One sample, unless the number is 0: of what never was there is no line.
    pub fn counted(&mut self, labels: &[Label<'_>], counter: &Counter) {
        let count = counter.get();
        if count > 0 {
            self.sample(labels, count);
        }
    }

    /// The samples of a histogram, unless nothing was added to it. They agree with each other, whatever is added
    /// meanwhile.
    pub fn durations<const N: usize>(&mut self, labels: &[Label<'_>], histogram: &Histogram<N>) {
        let micros = histogram.micros.load(Ordering::Relaxed);
        let within = histogram.within.each_ref().map(Counter::get);
        let count = within.iter().sum::<u64>() + histogram.longer.get();
        if count == 0 {
            return;
        }
        let mut up_to = 0;
        for (bound, within) in histogram.bounds.iter().zip(within) {
            up_to += within;
            let bound = seconds(*bound).to_string();
            self.line("_bucket", labels, Some(("le", &bound)), up_to);
        }
        self.line("_bucket", labels, Some(("le", "+Inf")), count);
        self.line("_sum", labels, None, seconds(micros));
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[Label<'_>],
        last: Option<Label<'_>>,
        value: impl std::fmt::Display,
    ) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            text.push(before);
            before = ',';
            text.push_str(name);
            text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        if before == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

/// Prometheus counts in seconds.
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Text)) -> String {
        let mut text = Text::default();
        write(&mut text);
        String::from_utf8(text.into_bytes()).unwrap()
    }

    #[test]
    fn values_of_labels_are_escaped() {
        let text = text(|text| {
            let mut metric = text.gauge("g", "A gauge.");
            metric.sample(&[("plan", "a\"b\\c\nd é"), ("kind", "")], 1.5);
            metric.sample(&[], 2);
        });
        let wanted =
            "# HELP g A gauge.\n# TYPE g gauge\ng{plan=\"a\\\"b\\\\c\\nd é\",kind=\"\"} 1.5\ng 2\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_what_is_beyond() {
        const BOUNDS: [u64; 2] = [1_000, 2_000_000];
        let histogram = Histogram::new(&BOUNDS);
        for micros in [1, 1_000, 1_001, 2_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        let text = text(|text| {
            text.histogram("h", "H.")
                .durations(&[("a", "b")], &histogram)
        });
        let samples: Vec<&str> = text.lines().skip(2).collect();
        let wanted = [
            "h_bucket{a=\"b\",le=\"0.001\"} 2",
            "h_bucket{a=\"b\",le=\"2\"} 3",
            "h_bucket{a=\"b\",le=\"+Inf\"} 4",
            "h_sum{a=\"b\"} 2.002003",
            "h_count{a=\"b\"} 4",
        ];
        assert_eq!(samples, wanted);
    }

    #[test]
    fn of_what_never_was_there_is_no_sample() {
        let text = text(|text| {
            text.counter("c_total", "C.").counted(&[], &Counter::new());
            text.histogram("h", "H.")
                .durations(&[], &Histogram::new(&SHORT));
        });
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    }

    #[test]
    fn bounds_grow() {
        assert!(SHORT.is_sorted() && LONG.is_sorted());
    }
}
