//! Faults that a test asks for.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::watch;

use super::body::{Body, BodyError, chunks};

/// What goes wrong with requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The request is taken and never answered, also not when the fault is lifted.
    Hang,
    /// The connection is reset as soon as the head of the request is there.
    Reset,
    /// The head and the first half of the first chunk of the body are sent. The rest follows when
    /// another fault, or none, is set.
    SlowBody,
    /// The request is not carried out, but answered with that status code and its `Status`
    /// document. A code that HTTP does not have counts as 500.
    Status(u16),
}

/// The fault and its reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) fault: Fault,
    /// Also for `/version`, which kubectl may ask first.
    pub(super) everywhere: bool,
}

impl Setting {
    /// The fault of a request.
    pub(super) fn at(self, path: &str) -> Fault {
        if self.everywhere || !path.starts_with("/version") {
            self.fault
        } else {
            Fault::None
        }
    }
}

/// Makes the body of an answer as [`Fault::SlowBody`] says.
pub(super) fn slow(response: Response<Body>, settings: watch::Receiver<Setting>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let slow = SlowBody {
        body,
        stage: Stage::First,
        settings,
    };
    let body = chunks(slow, |mut slow| async { Some((slow.next().await?, slow)) });
    Response::from_parts(head, body)
}

struct SlowBody {
    body: Body,
    stage: Stage,
    settings: watch::Receiver<Setting>,
}

enum Stage {
    First,
    Held(Bytes),
    Through,
}

impl SlowBody {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if let Stage::Held(rest) = &mut self.stage {
            let rest = std::mem::take(rest);
            self.settings
                .wait_for(|setting| setting.fault != Fault::SlowBody)
                .await
                .ok()?;
            self.stage = Stage::Through;
            return Some(Ok(rest));
        }
        let frame = match self.body.frame().await? {
            Ok(frame) => frame,
            Err(error) => return Some(Err(error)),
        };
        let mut data = frame.into_data().unwrap_or_default();
        if matches!(self.stage, Stage::First) {
            let rest = data.split_off(data.len() / 2);
            self.stage = Stage::Held(rest);
        }
        Some(Ok(data))
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::whole;
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn spares_version_unless_told() {
        let setting = Setting {
            fault: Fault::Hang,
            everywhere: false,
        };
        assert_eq!(setting.at("/version?timeout=5s"), Fault::None);
        assert_eq!(setting.at("/api"), Fault::Hang);
        assert_eq!(
            Setting {
                everywhere: true,
                ..setting
            }
            .at("/version"),
            Fault::Hang
        );
    }

    #[test]
    fn a_slow_body_waits_for_the_end_of_the_fault() {
        let settings = watch::Sender::new(Setting {
            fault: Fault::SlowBody,
            everywhere: false,
        });
        let mut response = slow(Response::new(whole("abcdef")), settings.subscribe());
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "6");
        let mut next = || response.body_mut().frame().now_or_never();
        assert_eq!(
            next().unwrap().unwrap().unwrap().into_data().unwrap(),
            "abc"
        );
        assert!(next().is_none());
        settings.send_replace(Setting::default());
        assert_eq!(
            next().unwrap().unwrap().unwrap().into_data().unwrap(),
            "def"
        );
        assert!(next().unwrap().is_none());
    }
}
