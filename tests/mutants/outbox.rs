//! The mutants that the outbox's judge finds. `tests/outbox/mutants.rs` runs them.

use super::marks::Mutant;

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "one message more than the capacity",
        rule: "outbox-is-bounded",
        broken: "messages <= self.rules.capacity && bytes + len <= self.rules.capacity_bytes",
    },
    Mutant {
        name: "one byte more than the capacity",
        rule: "outbox-is-bounded",
        broken: "messages < self.rules.capacity && bytes + len <= self.rules.capacity_bytes + 1",
    },
    Mutant {
        name: "one message more than the window",
        rule: "window",
        broken: "(self.rules.window + 1).saturating_sub(self.in_flight)",
    },
    Mutant { name: "a backlog without a pace", rule: "catch-up-rate", broken: "usize::MAX" },
    Mutant {
        name: "a backlog that stops",
        rule: "catch-up-rate",
        broken: "if self.pace.is_none() { usize::MAX } else { 0 }",
    },
    Mutant { name: "a batch without a bound", rule: "batch-is-bounded", broken: "false" },
    Mutant {
        name: "messages that are not sent again",
        rule: "resend-in-order",
        broken: "self.next_to_take = self.next_number;",
    },
    Mutant {
        name: "a message that a break loses",
        rule: "resend-in-order",
        broken: "self.next_to_take = self.log.oldest().map_or(self.next_number, |oldest| oldest + 1);",
    },
    Mutant { name: "a message that does not expire", rule: "expiry", broken: "true" },
    Mutant {
        name: "a message that expires when it is still young",
        rule: "expiry",
        broken: "self.ages.accepted_at(self.next_to_take).is_none_or(|accepted| now + limit / 2 < accepted + limit)",
    },
    Mutant {
        name: "a message that has arrived, and counts as dropped, expired or unsent",
        rule: "handed-message-is-in-doubt",
        broken: "fate",
    },
    Mutant {
        name: "a message that counts as written before it is acknowledged",
        rule: "written-is-acknowledged",
        broken: "self.settle_through(self.flight.handed(), Fate::Written);",
    },
    Mutant {
        name: "a message that counts as written when it is handed over",
        rule: "handed-over-is-not-written",
        broken: "true",
    },
    Mutant {
        name: "an acknowledgement of one byte too many",
        rule: "acknowledged-to-the-byte",
        broken: "self.acknowledged.bytes.max((self.handed.bytes + 1).saturating_sub(missing))",
    },
    Mutant {
        name: "an acknowledgement that goes back",
        rule: "acknowledged-to-the-byte",
        broken: "self.handed.bytes.saturating_sub(missing + 40)",
    },
    Mutant {
        name: "a message that is sent again although nothing may be",
        rule: "never-sends-again",
        broken: "self.flight.begun()",
    },
    Mutant {
        name: "a message that was not begun and is not sent",
        rule: "never-sends-again",
        broken: "self.flight.cut().unwrap_or_else(|| self.flight.begun()) + 1",
    },
    Mutant {
        name: "a message that a break cut and that is not sent again",
        rule: "interrupted-is-sent-again",
        broken: "self.flight.cut().unwrap_or_else(|| self.flight.handed())",
    },
    Mutant {
        name: "a message that the kernel has and that is sent again",
        rule: "interrupted-is-sent-again",
        broken: "0",
    },
    Mutant { name: "an answer to what was not sent", rule: "answer-to-what-was-not-sent", broken: "false" },
    Mutant {
        name: "an answer to the last message that counts as false",
        rule: "answer-to-what-was-not-sent",
        broken: "number >= highest",
    },
    Mutant {
        name: "an answer to a message that is not sent whole",
        rule: "answer-to-a-whole-message",
        broken: "self.oldest_waiting().filter(|number| *number < self.next_to_take)",
    },
    Mutant {
        name: "an answer to a message of another link",
        rule: "answered-once",
        broken: "self.log.len_of(number).is_some()",
    },
    Mutant {
        name: "an answer of an earlier link that is forgotten",
        rule: "sent-on-an-earlier-link",
        broken: "self.highest_handed = self.flight.begun();",
    },
    Mutant { name: "a message answered without a fate", rule: "answer-of-an-earlier-link", broken: "" },
    Mutant { name: "a dropped message that is not counted", rule: "dropped-message-is-counted", broken: "" },
    Mutant {
        name: "an old message that makes room and is not counted",
        rule: "oldest-message-is-counted",
        broken: "self.log.settle(self.next_to_take);",
    },
    Mutant {
        name: "a refused message that is not counted",
        rule: "refused-message-is-rejected",
        broken: "drop(reason);",
    },
    Mutant { name: "a message in doubt that is not counted", rule: "doubt-is-counted", broken: "" },
    Mutant {
        name: "a message in doubt that counts as written",
        rule: "doubt-is-counted",
        broken: "self.settle_through(not_again, Fate::Written);",
    },
    Mutant { name: "an unsent message that is not counted", rule: "unsent-is-counted", broken: "" },
    Mutant {
        name: "a late message with the bytes of its neighbours",
        rule: "late-message-keeps-its-bytes",
        broken: "kept_bytes.extend_from_slice(&body[..position(end) - self.start(index)]);",
    },
    Mutant { name: "room that is not given back", rule: "bytes-are-given-back", broken: "" },
    Mutant {
        name: "an answer timeout of another message",
        rule: "oldest-unanswered",
        broken: "self.flight.handed_at(self.flight.begun())",
    },
];
