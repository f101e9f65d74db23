//! Bounds on the answers that AWS clients read. The SDK reads a whole answer into memory and parses nested
//! values by recursion, so an endless answer takes all memory, and one of brackets alone takes the stack.
//!
//! A table or a secret store that somebody else controls can send such answers; so can a confused proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use obsync_protocol::limits;

/// A client whose answers are bounded by [`limits::CLOUD_ANSWER`] and [`limits::CLOUD_ANSWER_DEPTH`].
pub(super) fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(BoundedClient(client))
}

#[derive(Debug)]
struct BoundedClient(SharedHttpClient);

impl HttpClient for BoundedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.0.http_connector(settings, components)))
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            Ok(answer.await?.map(|body| SdkBody::from_body_1_x(BoundedBody::new(body))))
        })
    }
}

/// A body that fails once it is longer or deeper than any plausible one.
struct BoundedBody {
    body: SdkBody,
    left: usize,
    nesting: Nesting,
}

impl BoundedBody {
    fn new(body: SdkBody) -> Self {
        BoundedBody { body, left: limits::CLOUD_ANSWER, nesting: Nesting::default() }
    }

    fn check(&mut self, stretch: &Bytes) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(stretch.len()) else {
            return Err(io::Error::other("the service's answer is too long"));
        };
        self.left = left;
        match self.nesting.passes(stretch) {
            true => Ok(()),
            false => Err(io::Error::other("the service's answer is nested too deeply")),
        }
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            if let Some(stretch) = frame.data_ref() {
                self.check(stretch)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

/// The nesting depth of a JSON text read so far. Other texts have few brackets, or closed ones.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    in_text: bool,
    is_escaped: bool,
}

impl Nesting {
    /// True if the text is not too deep after `stretch`.
    fn passes(&mut self, stretch: &[u8]) -> bool {
        for byte in stretch {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_text => self.is_escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' if !self.in_text => self.depth += 1,
                b'}' | b']' if !self.in_text => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth > limits::CLOUD_ANSWER_DEPTH {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passes(text: &str) -> bool {
        Nesting::default().passes(text.as_bytes())
    }

    #[test]
    fn brackets_in_texts_do_not_count() {
        let text = "[".repeat(1000);
        assert!(passes(&format!("{{\"a\":\"{text}\",\"b\":\"\\\"{text}\\\\\"}}")));
        assert!(!passes(&text));
        assert!(!passes(&"{\"a\":".repeat(limits::CLOUD_ANSWER_DEPTH + 1)));
        assert!(passes(&"{\"a\":".repeat(limits::CLOUD_ANSWER_DEPTH)));
        assert!(passes(&"[]".repeat(1000)));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_text_is_cut(text in "[\\[\\]{}\"\\\\a]{0,60}", at in 0usize..60) {
            let mut whole = Nesting::default();
            let mut cut = Nesting::default();
            let (first, rest) = text.split_at(at.min(text.len()));
            prop_assert_eq!(whole.passes(text.as_bytes()), cut.passes(first.as_bytes()) && cut.passes(rest.as_bytes()));
            prop_assert_eq!(whole.depth, cut.depth);
        }
    }
}
