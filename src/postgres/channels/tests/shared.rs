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

#[test]
fn until_the_unlisten_is_answered_only_a_channel_that_the_reader_had_is_wanted() {
    let mut sim = Simulation::connected();
    sim.channels.listen("had", 1).unwrap();
    let of_receiver = sim.channels.share("of a receiver", 2);
    sim.settle();
    let waiting = sim.channels.listen("waiting", 3).unwrap();
    sim.send();
    sim.channels.unlisten("had", 4);
    assert_eq!(sim.channels.cancel("of a receiver", of_receiver), None);
    assert_eq!(sim.channels.cancel("waiting", waiting), Some(3));
    for (channel, is_unwanted) in [("had", false), ("of a receiver", true), ("waiting", true)] {
        assert_eq!(sim.channels.is_unwanted(channel), is_unwanted, "{channel}");
    }
    sim.settle();
    sim.assert_consistent();
}

#[test]
fn further_user_is_not_answered_by_a_listen_that_an_unlisten_on_its_way_takes_back() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.settle();
    sim.channels.unlisten("a", 2);
    sim.send();
    sim.channels.listen("a", 3).unwrap();
    sim.send();
    sim.channels.share("a", 4);
    sim.send();
    assert_eq!((sim.sent.len(), &sim.notified[..]), (2, &[1][..]));
    sim.settle();
    assert_eq!(sim.notified, [1, 2, 3, 4]);
    sim.assert_consistent();
}

#[test]
fn each_user_asks_anew_although_an_earlier_listen_is_still_in_force() {
    let mut sim = Simulation::connected();
    let first = sim.channels.share("a", 1);
    sim.settle();
    sim.channels.cancel("a", first);
    let numbers = [2, 3, 4];
    let _ = numbers.map(|number| sim.channels.share("a", number));
    for number in numbers {
        sim.send();
        assert!(sim.serve(true), "{number}");
        assert_eq!(sim.notified.last(), Some(&number));
    }
    sim.settle();
    sim.assert_consistent();
}

#[test]
fn refusal_that_no_call_waits_for_gives_the_channel_up() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.settle();
    sim.disconnect();
    sim.connect_with(Vec::new());
    sim.send();
    sim.serve(true);
    assert!(sim.channels.names().is_empty());
    sim.settle();
    sim.assert_consistent();
}
