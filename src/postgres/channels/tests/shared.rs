//! Channels with several users.

use super::*;

#[test]
fn shared_channel_is_listened_to_once_and_given_up_by_its_last_user() {
    let mut sim = Simulation::connected();
    let first = sim.channels.share("a", 1);
    let second = sim.channels.share("a", 2);
    assert!(sim.channels.is_unwanted("a") && !sim.channels.has_channel_of_listener());
    sim.send();
    assert_eq!(sim.sent.len(), 1);
    sim.serve(false);
    assert_eq!(sim.notified, [1, 2]);
    // It is in force already, for those that come later.
    sim.channels.listen("a", 3).unwrap();
    assert!(!sim.channels.is_unwanted("a") && sim.channels.has_channel_of_listener());
    sim.send();
    assert_eq!((sim.sent.len(), &sim.notified[..]), (0, &[1, 2, 3][..]));
    assert!(matches!(sim.channels.unlisten("a", 4), UnlistenOutcome::Done { waiter: 4, cancelled: None }));
    assert_eq!(sim.channels.cancel("a", first), None);
    sim.send();
    assert!(sim.sent.is_empty() && sim.channels.is_unwanted("a"));
    sim.assert_consistent();
    assert_eq!(sim.channels.cancel("a", second), None);
    sim.send();
    assert_eq!(sim.sent.len(), 1);
    sim.settle();
    sim.assert_consistent();
}

#[test]
fn refusal_is_told_to_one_user_and_the_next_one_asks_again() {
    let mut sim = Simulation::connected();
    sim.channels.share("a", 1);
    sim.channels.share("a", 2);
    sim.send();
    sim.serve(true);
    assert_eq!(sim.notified, [1]);
    sim.send();
    sim.serve(true);
    assert_eq!(sim.notified, [1, 2]);
    sim.settle();
    sim.assert_consistent();
}

#[test]
fn channel_to_be_tried_at_another_host_is_part_of_the_next_login_which_answers_its_call() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.send();
    sim.channels.try_at_next_login("a");
    sim.disconnect();
    assert_eq!(sim.channels.in_login().len(), 1);
    sim.connect();
    assert_eq!(sim.notified, []);
    sim.send();
    assert_eq!((sim.sent.len(), &sim.notified[..]), (0, &[1][..]));
    sim.assert_consistent();
}
