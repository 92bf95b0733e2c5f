//! The codecs of a whole connection, whose two sides share one as long as they are on the same link.

use super::factory::Factory;

pub(super) struct Codecs<C> {
    /// That of the link on which the stream is, and the sink too unless it is ahead.
    stream: C,
    /// The sink's, if it has been told of a break that the stream has not come to.
    ahead: Option<C>,
    /// The newest break of which the stream has told.
    last_reported: u64,
    factory: Factory<C>,
}

impl<C> Codecs<C> {
    pub(super) fn new(last_reported: u64, factory: Factory<C>) -> Self {
        Self { stream: factory.make(), ahead: None, last_reported, factory }
    }

    pub(super) fn of_stream(&self) -> &C {
        &self.stream
    }

    pub(super) fn of_stream_mut(&mut self) -> &mut C {
        &mut self.stream
    }

    pub(super) fn of_sink_mut(&mut self) -> &mut C {
        self.ahead.as_mut().unwrap_or(&mut self.stream)
    }

    /// One for each side.
    pub(super) fn into_split(self) -> (C, C, Factory<C>) {
        let sink = self.ahead.unwrap_or_else(|| self.factory.make());
        (self.stream, sink, self.factory)
    }

    /// The stream comes to a break, when the sink has been told of all up to `sink`. If the factory panics, nothing is done.
    pub(super) fn advance_stream(&mut self, generation: u64, sink: u64) {
        let ahead = self.ahead.take_if(|_| sink == generation);
        self.stream = ahead.unwrap_or_else(|| self.factory.make());
        if sink <= generation {
            self.ahead = None;
        }
        self.last_reported = generation;
    }

    /// The sink has been told of the break `sink`, and what the codec had encoded is thrown away.
    pub(super) fn advance_sink(&mut self, sink: u64) {
        // Otherwise the stream came to it first.
        if sink > self.last_reported {
            self.ahead = Some(self.factory.make());
        }
    }

    /// What the codec had encoded for the next link is thrown away. `is_late`: frames may have been decoded since.
    pub(super) fn renew_sink(&mut self, is_late: bool) {
        let fresh = self.factory.make();
        if self.ahead.is_none() && !is_late {
            self.stream = fresh;
        } else {
            self.ahead = Some(fresh);
        }
    }
}
