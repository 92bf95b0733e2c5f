//! A count of the program's marks on a connection, each of which ends with its value.
//!
//! Next: [`super::super::stopping`], the two kinds of marks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ConnRecord;

/// One mark, counted in the record while it exists.
pub(in crate::acceptor) struct Hold {
    /// The connection.
    record: Arc<ConnRecord>,
    /// Which count.
    count: fn(&ConnRecord) -> &AtomicUsize,
}

impl Hold {
    /// Work goes on.
    pub(in crate::acceptor) fn busy(record: &Arc<ConnRecord>) -> Self {
        Self::new(record, |record| &record.busy)
    }

    /// The program itself ends the connection when the acceptor stops.
    pub(in crate::acceptor) fn stopping(record: &Arc<ConnRecord>) -> Self {
        Self::new(record, |record| &record.stopping)
    }

    /// Counts a mark.
    fn new(record: &Arc<ConnRecord>, count: fn(&ConnRecord) -> &AtomicUsize) -> Self {
        count(record).fetch_add(1, Ordering::SeqCst);
        Self { record: Arc::clone(record), count }
    }

    /// The connection.
    pub(in crate::acceptor) fn record(&self) -> &Arc<ConnRecord> {
        &self.record
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        (self.count)(&self.record).fetch_sub(1, Ordering::SeqCst);
        if self.record.is_stopping() {
            // A read may have waited for this.
            self.record.wake_all();
        }
        // So may the end of a connection of lines.
        self.record.waiters.wake_all();
    }
}
