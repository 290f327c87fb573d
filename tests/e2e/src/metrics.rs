//! Reads the metrics of a part, and tells by them whether anything is still under way.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

/// Far above what any end takes that is not lost.
const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A page of metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The page.
    pub text: String,
    /// Each sample, its labels among its name as the page has them.
    pub samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Asks for those of the part whose health checks are answered at `address`.
    ///
    /// # Errors
    ///
    /// It does not answer, or with something else than metrics.
    pub async fn fetch(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, text) = answer.split_once("\r\n\r\n").context("no head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Self::parse(text)
    }

    /// Reads a page.
    ///
    /// # Errors
    ///
    /// It is none, or not whole.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with("# EOF\n"), "the page is cut off: {text}");
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').context("no value")?;
            let before = samples.insert(name.to_owned(), value.parse()?);
            ensure!(before.is_none(), "{name} is there twice");
        }
        let text = text.to_owned();
        Ok(Self { text, samples })
    }

    /// The sum of all samples of this name, whatever their labels.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn sum(&self, name: &str) -> Result<f64> {
        let of_name = |sample: &str| sample.split('{').next() == Some(name);
        let mut found = self.samples.iter().filter(|(sample, _)| of_name(sample));
        let (_, first) = found.next().with_context(|| format!("no {name}"))?;
        Ok(first + found.map(|(_, value)| value).sum::<f64>())
    }

    /// What is counted of `name` with this label.
    ///
    /// # Errors
    ///
    /// There is no such sample.
    pub fn with(&self, name: &str, label: &str, value: &str) -> Result<f64> {
        let wanted = format!("{label}=\"{value}\"");
        let found = self.samples.iter().find(|(sample, _)| {
            let (of, labels) = sample.split_once('{').unwrap_or((sample, ""));
            of == name && labels.trim_end_matches('}').split(',').any(|l| l == wanted)
        });
        let (_, count) = found.with_context(|| format!("no {name} with {wanted}"))?;
        Ok(*count)
    }
}

/// Whether nothing is under way at either end: no stream is open but those that the controller
/// keeps for the next request, nothing is held, and of each other stream it is known how it ended.
///
/// # Errors
///
/// What is left.
pub fn tables_empty(controller: &Metrics, agent: &Metrics) -> Result<()> {
    let idle = controller.sum("controlplane_controller_streams_idle")?;
    for (who, metrics) in [("controller", controller), ("agent", agent)] {
        let of = |name: &str| metrics.sum(&format!("controlplane_{who}_{name}"));
        let open = of("streams_open")?;
        ensure!(
            open == idle,
            "the {who} has {open} streams, and {idle} are idle"
        );
        let held = of("buffered_bytes")?;
        ensure!(held == 0.0, "the {who} holds {held} bytes");
        let (opened, closed) = (of("streams_opened_total")?, of("streams_closed_total")?);
        ensure!(
            opened == closed + open,
            "of {opened} streams the {who} has closed {closed}, and {open} are open"
        );
    }
    Ok(())
}

/// Asks again and again until it holds.
///
/// # Errors
///
/// Why it does not after a long time.
pub async fn until<F: Future<Output = Result<()>>>(holds: impl Fn() -> F) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match holds().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => {
                bail!("not even after {} s: {error:#}", PATIENCE.as_secs())
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(who: &str, open: u32, held: u32, closed: u32) -> Metrics {
        let page = format!(
            "controlplane_{who}_streams_idle{{cluster=\"a\"}} 1\n\
             controlplane_{who}_streams_open {open}\n\
             controlplane_{who}_buffered_bytes{{direction=\"in\"}} {held}\n\
             controlplane_{who}_streams_opened_total 3\n\
             controlplane_{who}_streams_closed_total{{reason=\"x\"}} {closed}\n\
             controlplane_{who}_streams_closed_total{{cluster=\"a\",reason=\"y\"}} 1\n# EOF\n"
        );
        Metrics::parse(&page).expect("a page")
    }

    #[test]
    fn whatever_is_left_is_seen() {
        let (controller, agent) = (page("controller", 1, 0, 1), page("agent", 1, 0, 1));
        assert!(tables_empty(&controller, &agent).is_ok());
        for left in [(2, 0, 0), (1, 1, 1), (1, 0, 0)] {
            let (open, held, closed) = left;
            let bad = page("agent", open, held, closed);
            assert!(tables_empty(&controller, &bad).is_err(), "{left:?}");
        }
        let closed = "controlplane_agent_streams_closed_total";
        assert_eq!(agent.with(closed, "reason", "y").ok(), Some(1.0));
        assert!(agent.with(closed, "reason", "z").is_err());
        assert!(Metrics::parse("a 1\n").is_err(), "without its end");
    }
}
