use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Sends after 10 seconds, gives up after 2 more.
fn heartbeat() -> (Heartbeat, Instant) {
    let begin = Instant::now();
    (Heartbeat::new(Some(10 * SECOND), 2 * SECOND, begin), begin)
}

#[test]
fn silent_server_gets_a_heartbeat_and_is_given_up_after_a_last_check() {
    let (mut heartbeat, begin) = heartbeat();
    assert_eq!(heartbeat.step(begin, begin, false), HeartbeatStep::Wait(Some(begin + 10 * SECOND)));
    assert_eq!(heartbeat.step(begin + 10 * SECOND, begin, false), HeartbeatStep::Send);
    let end = begin + 12 * SECOND;
    assert_eq!(heartbeat.step(begin + 11 * SECOND, begin, false), HeartbeatStep::Wait(Some(end)));
    assert_eq!(heartbeat.step(end, begin, false), HeartbeatStep::Wait(Some(end + GRACE)));
    assert_eq!(heartbeat.step(end, begin, false), HeartbeatStep::Wait(Some(end + GRACE)));
    assert_eq!(heartbeat.step(end + GRACE, begin, false), HeartbeatStep::GiveUp);
}

#[test]
fn anything_that_arrives_answers_the_heartbeat() {
    let (mut heartbeat, begin) = heartbeat();
    heartbeat.step(begin + 10 * SECOND, begin, false);
    heartbeat.step(begin + 12 * SECOND, begin, false);
    let last_read = begin + 12 * SECOND;
    assert_eq!(
        heartbeat.step(begin + 12 * SECOND + GRACE, last_read, false),
        HeartbeatStep::Wait(Some(begin + 20 * SECOND))
    );
    // The next heartbeat has the whole time again.
    assert_eq!(heartbeat.step(begin + 20 * SECOND, last_read, false), HeartbeatStep::Send);
    let end = begin + 22 * SECOND;
    assert_eq!(heartbeat.step(end, last_read, false), HeartbeatStep::Wait(Some(end + GRACE)));
}

#[test]
fn program_that_was_suspended_checks_before_it_gives_up() {
    let (mut heartbeat, begin) = heartbeat();
    heartbeat.step(begin + 10 * SECOND, begin, false);
    let late = begin + 3600 * SECOND;
    assert_eq!(heartbeat.step(late, begin, false), HeartbeatStep::Wait(Some(late + GRACE)));
    assert_eq!(heartbeat.step(late + GRACE, late, false), HeartbeatStep::Send, "nothing was sent since the last one");
}

#[test]
fn time_in_which_this_side_did_not_read_does_not_count() {
    let (mut heartbeat, begin) = heartbeat();
    let resumed = begin + 100 * SECOND;
    heartbeat.note_resumed(resumed);
    heartbeat.note_sent(resumed);
    assert_eq!(heartbeat.step(resumed, begin, false), HeartbeatStep::Wait(Some(resumed + 10 * SECOND)));
    // An unanswered heartbeat has the whole time again.
    assert_eq!(heartbeat.step(resumed + 10 * SECOND, begin, false), HeartbeatStep::Send);
    let resumed = resumed + 100 * SECOND;
    heartbeat.note_resumed(resumed);
    assert_eq!(heartbeat.step(resumed, begin, false), HeartbeatStep::Wait(Some(resumed + 2 * SECOND)));
}

#[test]
fn without_an_interval_only_queries_of_the_program_have_a_limit() {
    let begin = Instant::now();
    let mut heartbeat = Heartbeat::new(None, 2 * SECOND, begin);
    assert_eq!(heartbeat.step(begin + 1000 * SECOND, begin, false), HeartbeatStep::Wait(None));
    heartbeat.note_ping(begin + 1000 * SECOND);
    heartbeat.note_ping(begin + 1001 * SECOND);
    assert_eq!(heartbeat.step(begin + 1001 * SECOND, begin, false), HeartbeatStep::Wait(Some(begin + 1002 * SECOND)));
}

#[test]
fn times_beyond_the_clock_never_come() {
    let begin = Instant::now();
    let mut heartbeat = Heartbeat::new(Some(Duration::MAX), Duration::MAX, begin);
    assert_eq!(heartbeat.step(begin, begin, false), HeartbeatStep::Wait(None));
    heartbeat.note_ping(begin);
    assert_eq!(heartbeat.step(begin, begin, false), HeartbeatStep::Wait(None));
}

#[test]
fn busy_server_gets_a_heartbeat_when_nothing_was_sent_for_the_interval() {
    let (mut heartbeat, begin) = heartbeat();
    for second in 0..10 {
        let now = begin + second * SECOND;
        assert_eq!(heartbeat.step(now, now, false), HeartbeatStep::Wait(Some(begin + 10 * SECOND)));
    }
    let now = begin + 10 * SECOND;
    assert_eq!(heartbeat.step(now, now, false), HeartbeatStep::Send);
    // What arrives next is a sign of life, and the next heartbeat is due after the interval.
    let next = now + SECOND;
    assert_eq!(heartbeat.step(next, next, false), HeartbeatStep::Wait(Some(now + 10 * SECOND)));
    // Anything else that is sent does as well.
    heartbeat.note_sent(next);
    assert_eq!(heartbeat.step(next, next, false), HeartbeatStep::Wait(Some(next + 10 * SECOND)));
}

#[test]
fn silence_has_no_limit_while_a_statement_runs() {
    let (mut heartbeat, begin) = heartbeat();
    heartbeat.note_ping(begin);
    let late = begin + 3600 * SECOND;
    assert_eq!(heartbeat.step(begin + 2 * SECOND, begin, false), HeartbeatStep::Wait(Some(begin + 2 * SECOND + GRACE)));
    assert_eq!(heartbeat.step(late, begin, true), HeartbeatStep::Wait(None));
    // Its answer is a sign of life.
    heartbeat.note_sent(late);
    assert_eq!(heartbeat.step(late, late, false), HeartbeatStep::Wait(Some(late + 10 * SECOND)));
}
