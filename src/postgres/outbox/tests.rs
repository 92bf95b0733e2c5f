use super::*;

fn cause() -> Arc<Error> {
    Arc::new(Error::Silent { limit: Duration::from_secs(1) })
}

/// What is in it, in short: there is no making notifications here, so the queue is fed with markers and counts.
fn kinds(outbox: &mut Outbox) -> Vec<String> {
    std::iter::from_fn(|| outbox.pop())
        .map(|message| format!("{message:?}").split(' ').next().unwrap().into())
        .collect()
}

#[test]
fn markers_keep_their_order_and_have_an_allowance_of_their_own() {
    let mut outbox = Outbox::new(1, WhenFull::Wait);
    for generation in 1..=32 {
        assert!(outbox.has_room_for_markers());
        outbox.lost(generation, cause());
        outbox.resynced(generation + 1, Duration::ZERO);
        assert_eq!(outbox.room(), 1);
    }
    assert!(!outbox.has_room_for_markers());
    outbox.pop();
    assert!(!outbox.has_room_for_markers());
    outbox.pop();
    assert!(outbox.has_room_for_markers());
    assert_eq!(kinds(&mut outbox), ["Lost", "Resynced"].repeat(31));
}
