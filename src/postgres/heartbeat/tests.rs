use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Asks after 10 s, gives up after 2.
fn heartbeat() -> (Heartbeat, Instant) {
    (Heartbeat::new(Some(10 * SECOND), 2 * SECOND), Instant::now())
}

#[test]
fn silent_server_is_asked_and_given_up_after_a_last_look() {
    let (mut heartbeat, begin) = heartbeat();
    assert_eq!(heartbeat.step(begin, begin), Step::Wait(Some(begin + 10 * SECOND)));
    assert_eq!(heartbeat.step(begin + 10 * SECOND, begin), Step::Ask);
    let end = begin + 12 * SECOND;
    assert_eq!(heartbeat.step(begin + 11 * SECOND, begin), Step::Wait(Some(end)));
    assert_eq!(heartbeat.step(end, begin), Step::Wait(Some(end + GRACE)));
    assert_eq!(heartbeat.step(end, begin), Step::Wait(Some(end + GRACE)));
    assert_eq!(heartbeat.step(end + GRACE, begin), Step::GiveUp);
}

#[test]
fn anything_that_comes_in_answers_the_question() {
    let (mut heartbeat, begin) = heartbeat();
    heartbeat.step(begin + 10 * SECOND, begin);
    heartbeat.step(begin + 12 * SECOND, begin);
    let heard = begin + 12 * SECOND;
    assert_eq!(heartbeat.step(begin + 12 * SECOND + GRACE, heard), Step::Wait(Some(heard + 10 * SECOND)));
    // And the next question gets the whole time again.
    assert_eq!(heartbeat.step(heard + 10 * SECOND, heard), Step::Ask);
    assert_eq!(heartbeat.step(heard + 12 * SECOND, heard), Step::Wait(Some(heard + 12 * SECOND + GRACE)));
}

#[test]
fn program_that_was_stopped_looks_before_it_gives_up() {
    let (mut heartbeat, begin) = heartbeat();
    heartbeat.step(begin + 10 * SECOND, begin);
    let late = begin + 3600 * SECOND;
    assert_eq!(heartbeat.step(late, begin), Step::Wait(Some(late + GRACE)));
    assert_eq!(heartbeat.step(late + GRACE, late), Step::Wait(Some(late + 10 * SECOND)));
}

#[test]
fn time_in_which_this_side_did_not_read_does_not_count() {
    let (mut heartbeat, begin) = heartbeat();
    let resumed = begin + 100 * SECOND;
    heartbeat.resumed(resumed);
    assert_eq!(heartbeat.step(resumed, begin), Step::Wait(Some(resumed + 10 * SECOND)));
    // A question that was open has its time again.
    assert_eq!(heartbeat.step(resumed + 10 * SECOND, begin), Step::Ask);
    let resumed = resumed + 100 * SECOND;
    heartbeat.resumed(resumed);
    assert_eq!(heartbeat.step(resumed, begin), Step::Wait(Some(resumed + 2 * SECOND)));
}

#[test]
fn without_an_interval_only_questions_of_the_user_are_waited_for() {
    let begin = Instant::now();
    let mut heartbeat = Heartbeat::new(None, 2 * SECOND);
    assert_eq!(heartbeat.step(begin + 1000 * SECOND, begin), Step::Wait(None));
    heartbeat.asked(begin + 1000 * SECOND);
    heartbeat.asked(begin + 1001 * SECOND);
    assert_eq!(heartbeat.step(begin + 1001 * SECOND, begin), Step::Wait(Some(begin + 1002 * SECOND)));
}

#[test]
fn times_that_no_clock_reaches_are_none() {
    let begin = Instant::now();
    let mut heartbeat = Heartbeat::new(Some(Duration::MAX), Duration::MAX);
    assert_eq!(heartbeat.step(begin, begin), Step::Wait(None));
    heartbeat.asked(begin);
    assert_eq!(heartbeat.step(begin, begin), Step::Wait(None));
}
