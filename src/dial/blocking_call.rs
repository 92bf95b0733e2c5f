//! A call that may block for long, such as a look-up of a name: at most one at a time.
//!
//! The runtime's blocking threads are limited (512 unless set), and a call on one of them cannot be stopped. If each
//! dial that runs into its time limit left such a call behind, a resolver that does not answer would in time take all
//! of these threads from the program. Next: [`TcpDialer`](super::TcpDialer), which looks names up with it, and `tls/reload.rs`,
//! which reads files with it.

use std::io;

use tokio::task::{JoinHandle, spawn_blocking};

/// The last call, until somebody has seen it end.
///
/// A clone has no call under way. A drop leaves a running call to its thread, and withdraws one that waits for a thread.
#[derive(Debug)]
pub(super) struct BlockingCall<T>(Option<JoinHandle<io::Result<T>>>);

impl<T: Send + 'static> BlockingCall<T> {
    /// Makes the call on one of the runtime's blocking threads, and waits for its result.
    ///
    /// If an earlier call is under way, it waits for that one instead. The earlier call may have begun to fail before
    /// the cause was mended, so its failure is followed by a call of its own. If the earlier call has ended meanwhile,
    /// its result is out of date and is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, the call goes on, and the next `run` waits for it.
    pub(super) async fn run(&mut self, call: impl Fn() -> io::Result<T> + Clone + Send + 'static) -> io::Result<T> {
        self.0.take_if(|earlier| earlier.is_finished());
        let is_earlier = self.0.is_some();
        match self.wait_for(call.clone()).await {
            Err(_) if is_earlier => self.wait_for(call).await,
            outcome => outcome,
        }
    }

    /// The same, with a result that is never older than this call: it waits for an earlier call to end, and then makes
    /// one of its own.
    ///
    /// # Cancel safety
    ///
    /// As for [`run`](BlockingCall::run).
    #[cfg(feature = "tls")]
    pub(super) async fn run_fresh(&mut self, call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        if let Some(earlier) = &mut self.0 {
            let _outdated = earlier.await;
            self.0 = None;
        }
        self.wait_for(call).await
    }

    /// Waits for the call under way; if there is none, for a new one.
    async fn wait_for(&mut self, call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let outcome = self.0.get_or_insert_with(|| spawn_blocking(call)).await;
        self.0 = None;
        // The call panicked, or the runtime has shut down before it began.
        outcome.unwrap_or_else(|error| Err(error.into()))
    }
}

impl<T> Default for BlockingCall<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Clone for BlockingCall<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> Drop for BlockingCall<T> {
    fn drop(&mut self) {
        if let Some(call) = &self.0 {
            call.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::Duration;

    use super::*;
    use crate::poll_once::poll_once;

    /// Calls that block until the test sends their results.
    struct Script {
        begun: Arc<AtomicUsize>,
        results: mpsc::Sender<io::Result<u32>>,
        receiver: Arc<Mutex<mpsc::Receiver<io::Result<u32>>>>,
    }

    impl Script {
        fn new() -> Self {
            let (results, receiver) = mpsc::channel();
            Self { begun: Arc::default(), results, receiver: Arc::new(Mutex::new(receiver)) }
        }

        fn call(&self) -> impl Fn() -> io::Result<u32> + Clone + Send + 'static + use<> {
            let (begun, receiver) = (Arc::clone(&self.begun), Arc::clone(&self.receiver));
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                receiver.lock().unwrap().recv().unwrap()
            }
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }

        async fn wait_until_begun(&self, count: usize) {
            while self.begun() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    #[tokio::test]
    async fn many_runs_that_give_up_share_one_call() {
        let (script, mut call) = (Script::new(), BlockingCall::default());
        for _ in 0..1000 {
            assert!(poll_once(call.run(script.call())).is_none());
        }
        {
            let mut run = pin!(call.run(script.call()));
            assert!(poll_once(run.as_mut()).is_none());
            script.results.send(Ok(7)).unwrap();
            assert_eq!((run.await.unwrap(), script.begun()), (7, 1));
        }
        // Its end is seen: the next run makes a call of its own.
        script.results.send(Ok(8)).unwrap();
        assert_eq!((call.run(script.call()).await.unwrap(), script.begun()), (8, 2));
    }

    #[tokio::test]
    async fn result_that_came_while_nobody_waited_is_dropped() {
        let (script, mut call) = (Script::new(), BlockingCall::default());
        assert!(poll_once(call.run(script.call())).is_none());
        script.results.send(Ok(1)).unwrap();
        while !call.0.as_ref().unwrap().is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        script.results.send(Ok(2)).unwrap();
        assert_eq!((call.run(script.call()).await.unwrap(), script.begun()), (2, 2));
    }

    #[tokio::test]
    async fn failure_of_an_earlier_call_is_followed_by_one_more() {
        for (second, expected) in [(Ok(2), Some(2)), (Err(io::ErrorKind::NotFound.into()), None)] {
            let (script, mut call) = (Script::new(), BlockingCall::default());
            assert!(poll_once(call.run(script.call())).is_none());
            let mut run = pin!(call.run(script.call()));
            assert!(poll_once(run.as_mut()).is_none());
            script.results.send(Err(io::ErrorKind::TimedOut.into())).unwrap();
            script.results.send(second).unwrap();
            assert_eq!((run.await.ok(), script.begun()), (expected, 2));
        }
        // A call of its own is not repeated.
        let (script, mut call) = (Script::new(), BlockingCall::default());
        script.results.send(Err(io::ErrorKind::TimedOut.into())).unwrap();
        assert_eq!(call.run(script.call()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(script.begun(), 1);
    }

    #[tokio::test]
    async fn clone_makes_a_call_of_its_own() {
        let (script, mut call) = (Script::new(), BlockingCall::default());
        assert!(poll_once(call.run(script.call())).is_none());
        script.wait_until_begun(1).await;
        let mut clone = call.clone();
        assert!(poll_once(clone.run(script.call())).is_none());
        script.wait_until_begun(2).await;
        script.results.send(Ok(1)).unwrap();
        script.results.send(Ok(2)).unwrap();
    }

    #[tokio::test]
    async fn panic_of_a_call_is_an_error() {
        let mut call = BlockingCall::<u32>::default();
        let error = call.run(|| panic!("as the test wants it")).await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }

    #[test]
    fn drop_withdraws_a_call_that_waits_for_a_thread() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let script = Script::new();
            let (mut busy, mut waiting) = (BlockingCall::default(), BlockingCall::default());
            assert!(poll_once(busy.run(script.call())).is_none());
            assert!(poll_once(waiting.run(script.call())).is_none());
            drop(waiting);
            for _ in 0..2 {
                script.results.send(Ok(1)).unwrap();
            }
            // The only thread takes its calls in order. So the one before this would have begun.
            spawn_blocking(|| {}).await.unwrap();
            assert_eq!(script.begun(), 1);
        });
    }
}
