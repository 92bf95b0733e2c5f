use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Sends after 10 seconds, gives up after 2 more.
fn heartbeat() -> (Heartbeat, Instant) {
    (Heartbeat::new(Some(10 * SECOND), 2 * SECOND), Instant::now())
}

#[test]
fn silent_server_gets_a_heartbeat_and_is_given_up_after_a_last_check() {
    let (mut heartbeat, begin) = heartbeat();
    assert_eq!(heartbeat.step(begin, begin), HeartbeatStep::Wait(Some(begin + 10 * SECOND)));
    assert_eq!(heartbeat.step(begin + 10 * SECOND, begin), HeartbeatStep::Send);
    let end = begin + 12 * SECOND;
    assert_eq!(heartbeat.step(begin + 11 * SECOND, begin), HeartbeatStep::Wait(Some(end)));
    assert_eq!(heartbeat.step(end, begin), HeartbeatStep::Wait(Some(end + GRACE)));
    assert_eq!(heartbeat.step(end, begin), HeartbeatStep::Wait(Some(end + GRACE)));
    assert_eq!(heartbeat.step(end + GRACE, begin), HeartbeatStep::GiveUp);
}

#[test]
fn anything_that_arrives_answers_the_heartbeat() {
    let (mut heartbeat, begin) = heartbeat();
    heartbeat.step(begin + 10 * SECOND, begin);
    heartbeat.step(begin + 12 * SECOND, begin);
    let last_read = begin + 12 * SECOND;
    assert_eq!(
        heartbeat.step(begin + 12 * SECOND + GRACE, last_read),
        HeartbeatStep::Wait(Some(last_read + 10 * SECOND))
    );
    // The next heartbeat has the whole time again.
    assert_eq!(heartbeat.step(last_read + 10 * SECOND, last_read), HeartbeatStep::Send);
    assert_eq!(
        heartbeat.step(last_read + 12 * SECOND, last_read),
        HeartbeatStep::Wait(Some(last_read + 12 * SECOND + GRACE))
    );
}

#[test]
fn program_that_was_suspended_checks_before_it_gives_up() {
    let (mut heartbeat, begin) = heartbeat();
    heartbeat.step(begin + 10 * SECOND, begin);
    let late = begin + 3600 * SECOND;
    assert_eq!(heartbeat.step(late, begin), HeartbeatStep::Wait(Some(late + GRACE)));
    assert_eq!(heartbeat.step(late + GRACE, late), HeartbeatStep::Wait(Some(late + 10 * SECOND)));
}

#[test]
fn time_in_which_this_side_did_not_read_does_not_count() {
    let (mut heartbeat, begin) = heartbeat();
    let resumed = begin + 100 * SECOND;
    heartbeat.note_resumed(resumed);
    assert_eq!(heartbeat.step(resumed, begin), HeartbeatStep::Wait(Some(resumed + 10 * SECOND)));
    // An unanswered heartbeat has the whole time again.
    assert_eq!(heartbeat.step(resumed + 10 * SECOND, begin), HeartbeatStep::Send);
    let resumed = resumed + 100 * SECOND;
    heartbeat.note_resumed(resumed);
    assert_eq!(heartbeat.step(resumed, begin), HeartbeatStep::Wait(Some(resumed + 2 * SECOND)));
}

#[test]
fn without_an_interval_only_queries_of_the_program_have_a_limit() {
    let begin = Instant::now();
    let mut heartbeat = Heartbeat::new(None, 2 * SECOND);
    assert_eq!(heartbeat.step(begin + 1000 * SECOND, begin), HeartbeatStep::Wait(None));
    heartbeat.note_query(begin + 1000 * SECOND);
    heartbeat.note_query(begin + 1001 * SECOND);
    assert_eq!(heartbeat.step(begin + 1001 * SECOND, begin), HeartbeatStep::Wait(Some(begin + 1002 * SECOND)));
}

#[test]
fn times_beyond_the_clock_never_come() {
    let begin = Instant::now();
    let mut heartbeat = Heartbeat::new(Some(Duration::MAX), Duration::MAX);
    assert_eq!(heartbeat.step(begin, begin), HeartbeatStep::Wait(None));
    heartbeat.note_query(begin);
    assert_eq!(heartbeat.step(begin, begin), HeartbeatStep::Wait(None));
}
