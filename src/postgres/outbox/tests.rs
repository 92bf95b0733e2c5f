use super::*;

fn cause() -> Arc<Error> {
    Arc::new(Error::Silent { limit: Duration::from_secs(1) })
}

/// Takes all that is in it: a notification's number, `L`ost, `R`esynced, `D`ropped with the count.
fn all(outbox: &mut Outbox<u32>) -> String {
    let items = std::iter::from_fn(|| outbox.pop()).map(|item| match item {
        Item::Notification(number) => number.to_string(),
        Item::Marker(Message::Lost { generation, .. }) => format!("L{generation}"),
        Item::Marker(Message::Resynced { generation, .. }) => format!("R{generation}"),
        Item::Marker(Message::Dropped { count, .. }) => format!("D{count}"),
        Item::Marker(Message::Notification(_)) => unreachable!(),
    });
    items.collect::<Vec<_>>().join(" ")
}

#[test]
fn markers_keep_their_place_and_have_an_allowance_of_their_own() {
    let mut outbox = Outbox::new(1, WhenFull::Wait);
    for generation in 1..=32 {
        assert!(outbox.has_room_for_markers());
        outbox.lost(generation, cause());
        outbox.resynced(generation + 1, Duration::ZERO);
        assert_eq!(outbox.room(), 1);
    }
    outbox.notification(7);
    assert!(!outbox.has_room_for_markers());
    outbox.pop();
    assert!(!outbox.has_room_for_markers());
    outbox.pop();
    assert!(outbox.has_room_for_markers());
    assert_eq!(all(&mut outbox), (2..=32).map(|n| format!("L{n} R{} ", n + 1)).collect::<String>() + "7");
    assert!(outbox.pop().is_none());
}

#[test]
fn what_finds_the_queue_full_is_dropped_and_counted_at_the_place_of_the_gap() {
    let mut outbox = Outbox::new(2, WhenFull::Drop);
    (1..=5).for_each(|number| outbox.notification(number));
    outbox.lost(1, cause());
    outbox.notification(6);
    outbox.notification(7);
    outbox.resynced(2, Duration::ZERO);
    outbox.pop();
    outbox.notification(8);
    outbox.notification(9);
    assert_eq!(all(&mut outbox), "2 D3 L1 D2 R2 8 D1");
}

#[test]
fn queue_that_waits_pauses_when_full_until_half_of_it_is_free() {
    for limit in [1, 2, 3, 10] {
        let mut outbox = Outbox::new(limit, WhenFull::Wait);
        for number in 0..limit {
            assert_eq!(outbox.room(), limit - number);
            outbox.notification(number);
        }
        assert_eq!(outbox.room(), 0);
        while !outbox.has_room_again() {
            assert_eq!(outbox.room(), 0);
            outbox.pop();
        }
        let taken = limit.div_ceil(2);
        assert_eq!(outbox.room(), taken, "of {limit}");
        // It pauses again only when it is full again.
        for number in 0..taken {
            assert_eq!(outbox.room(), taken - number);
            outbox.notification(number);
        }
        assert_eq!(outbox.room(), 0);
    }
}

#[test]
fn number_of_messages_is_bounded_whatever_comes() {
    let mut outbox = Outbox::new(3, WhenFull::Drop);
    for number in 0..10_000 {
        outbox.notification(number);
        if number % 10 == 0 && outbox.has_room_for_markers() {
            outbox.lost(1, cause());
            outbox.resynced(2, Duration::ZERO);
        }
        assert_eq!(outbox.room(), usize::MAX);
    }
    assert!(outbox.items.len() <= 3 + 2 * MARKERS + 1, "{}", outbox.items.len());
}
