use super::*;

fn cause() -> Arc<Error> {
    Arc::new(Error::Silent { limit: Duration::from_secs(1) })
}

/// Takes all items: the number of a notification, `L`ost and `R`esynced with the generation, `D`ropped with the count.
fn take_all(queue: &mut MessageQueue<u32>) -> String {
    let items = std::iter::from_fn(|| queue.pop()).map(|item| match item {
        Item::Notification(number) => number.to_string(),
        Item::Marker(Message::Lost { generation, .. }) => format!("L{generation}"),
        Item::Marker(Message::Resynced { generation, .. }) => format!("R{generation}"),
        Item::Marker(Message::Dropped { count, .. }) => format!("D{count}"),
        Item::Marker(Message::Listening { channel, .. }) => channel,
        Item::Marker(Message::Notification(_)) => unreachable!(),
    });
    items.collect::<Vec<_>>().join(" ")
}

#[test]
fn markers_keep_their_position_and_have_a_limit_of_their_own() {
    let mut queue = MessageQueue::new(1, WhenFull::Wait);
    for generation in 1..=32 {
        assert!(queue.has_room_for_markers());
        queue.push_lost(generation, cause());
        queue.push_resynced(generation + 1, Duration::ZERO);
        assert_eq!(queue.update_room(), 1);
    }
    queue.push_notification(7);
    assert!(!queue.has_room_for_markers());
    queue.pop();
    assert!(!queue.has_room_for_markers());
    queue.pop();
    assert!(queue.has_room_for_markers());
    assert_eq!(take_all(&mut queue), (2..=32).map(|n| format!("L{n} R{} ", n + 1)).collect::<String>() + "7");
    assert!(queue.pop().is_none());
}

#[test]
fn notifications_for_a_full_queue_are_dropped_and_counted_at_the_position_of_the_gap() {
    let mut queue = MessageQueue::new(2, WhenFull::Drop);
    (1..=5).for_each(|number| queue.push_notification(number));
    queue.push_lost(1, cause());
    queue.push_notification(6);
    queue.push_notification(7);
    queue.push_resynced(2, Duration::ZERO);
    queue.pop();
    queue.push_notification(8);
    queue.push_notification(9);
    assert_eq!(take_all(&mut queue), "2 D3 L1 D2 R2 8 D1");
}

#[test]
fn waiting_queue_pauses_when_full_until_half_of_it_is_free() {
    for limit in [1, 2, 3, 10] {
        let mut queue = MessageQueue::new(limit, WhenFull::Wait);
        for number in 0..limit {
            assert_eq!(queue.update_room(), limit - number);
            queue.push_notification(number);
        }
        assert_eq!(queue.update_room(), 0);
        while !queue.has_room_again() {
            assert_eq!(queue.update_room(), 0);
            queue.pop();
        }
        let taken = limit.div_ceil(2);
        assert_eq!(queue.update_room(), taken, "of {limit}");
        // It pauses again only when it is full.
        for number in 0..taken {
            assert_eq!(queue.update_room(), taken - number);
            queue.push_notification(number);
        }
        assert_eq!(queue.update_room(), 0);
    }
}

#[test]
fn number_of_messages_is_bounded() {
    let mut queue = MessageQueue::new(3, WhenFull::Drop);
    for number in 0..10_000 {
        queue.push_notification(number);
        if number % 10 == 0 && queue.has_room_for_markers() {
            queue.push_lost(1, cause());
            queue.push_resynced(2, Duration::ZERO);
        }
        assert_eq!(queue.update_room(), usize::MAX);
    }
    assert!(queue.items.len() <= 3 + 2 * MAX_MARKERS + 1, "{}", queue.items.len());
}

#[test]
fn memory_of_a_long_backlog_is_given_back_when_it_is_read() {
    let mut queue = MessageQueue::new(100_000, WhenFull::Wait);
    (0..100_000).for_each(|number: u32| queue.push_notification(number));
    for _ in 0..100_000 {
        assert!(queue.pop().is_some());
    }
    assert!(queue.items.capacity() <= KEPT_CAPACITY, "{}", queue.items.capacity());
}

#[test]
fn marker_of_a_channel_takes_the_place_of_a_notification_or_counts_as_dropped() {
    let mut queue = MessageQueue::new(2, WhenFull::Drop);
    queue.push_notification(1);
    queue.push_listening("a");
    queue.push_listening("b");
    queue.push_notification(2);
    assert_eq!(take_all(&mut queue), "1 a D2");
    let mut queue = MessageQueue::new(2, WhenFull::Wait);
    queue.push_listening("a");
    assert_eq!(queue.update_room(), 1);
    queue.push_notification(1);
    queue.push_listening("b");
    assert_eq!(queue.update_room(), 0);
    assert!(queue.has_room_for_markers());
    assert_eq!(take_all(&mut queue), "a 1 b");
    assert_eq!(queue.update_room(), 2);
    assert_eq!(queue.empty_copy().update_room(), 2);
}
