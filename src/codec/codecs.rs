//! The codecs of a whole connection.
//!
//! Both directions share one codec while they are on the same link. Only while the sink is on a later link than the
//! stream, there are two.
//!
//! Next: [`factory`](super::factory), where they come from.

use super::factory::CodecFactory;

/// The codecs of a [`Framed`](super::Framed).
pub(super) struct Codecs<C> {
    /// The codec of the stream's link, and of the sink too if it is on the same link.
    stream: C,
    /// The sink's codec, if the sink has reported a break that the stream has not come to.
    sink_ahead: Option<C>,
    /// The newest break that the stream has reported.
    last_reported: u64,
    /// Makes a fresh codec after each break, as a used one may hold the state of the old link.
    factory: CodecFactory<C>,
}

impl<C> Codecs<C> {
    /// The codecs of a connection that has reported all breaks up to `last_reported`.
    pub(super) fn new(last_reported: u64, factory: CodecFactory<C>) -> Self {
        Self { stream: factory.make(), sink_ahead: None, last_reported, factory }
    }

    /// The codec that decodes.
    pub(super) fn stream(&self) -> &C {
        &self.stream
    }

    /// The codec that decodes.
    pub(super) fn stream_mut(&mut self) -> &mut C {
        &mut self.stream
    }

    /// The codec that encodes.
    pub(super) fn sink_mut(&mut self) -> &mut C {
        self.sink_ahead.as_mut().unwrap_or(&mut self.stream)
    }

    /// A fresh codec, for [`start_over`](Codecs::start_over).
    pub(super) fn make(&self) -> C {
        self.factory.make()
    }

    /// Goes on with one `fresh` codec after the break of `generation`, in both directions.
    pub(super) fn start_over(&mut self, fresh: C, generation: u64) {
        (self.stream, self.sink_ahead, self.last_reported) = (fresh, None, generation);
    }

    /// One codec for each direction: the stream's, the sink's.
    pub(super) fn into_split(self) -> (C, C, CodecFactory<C>) {
        let sink = self.sink_ahead.unwrap_or_else(|| self.factory.make());
        (self.stream, sink, self.factory)
    }

    /// Moves the stream past the break of `generation`; the sink is past all breaks up to `sink`.
    ///
    /// If the factory panics, nothing has changed.
    pub(super) fn advance_stream(&mut self, generation: u64, sink: u64) {
        let ahead = self.sink_ahead.take_if(|_| sink == generation);
        self.stream = ahead.unwrap_or_else(|| self.factory.make());
        if sink <= generation {
            self.sink_ahead = None;
        }
        self.last_reported = generation;
    }

    /// Moves the sink past the break of `sink`. What its codec has encoded is dropped.
    pub(super) fn advance_sink(&mut self, sink: u64) {
        // If the stream came to that break first, its codec is fresh already.
        if sink > self.last_reported {
            self.sink_ahead = Some(self.factory.make());
        }
    }

    /// Gives the sink a fresh codec on the same link, as what the old one has encoded is dropped.
    ///
    /// `may_have_decoded`: the stream may have decoded frames with the shared codec since the loss, and keeps it then.
    pub(super) fn renew_sink(&mut self, may_have_decoded: bool) {
        let fresh = self.factory.make();
        if self.sink_ahead.is_none() && !may_have_decoded {
            self.stream = fresh;
        } else {
            self.sink_ahead = Some(fresh);
        }
    }
}
