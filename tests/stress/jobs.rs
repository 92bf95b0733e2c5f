//! What became of the jobs of one connection, and whether that is what the crate promises.
//!
//! A *job* is one frame that a task writes: with a `write_all` of a `SharedConn`, or with several writes of a whole
//! connection or a half. The client notes what the crate has said of each job, the server what has arrived on each
//! link. [`violations`] compares them.
//!
//! Next: [`writing`](crate::writing), a task that writes jobs.

use std::collections::{HashMap, HashSet};

/// What the crate has said of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing: its future was dropped, or is still there. It arrives once or not at all.
    Unknown,
    /// `Ok`: it arrives, unless its link breaks first.
    Written,
    /// An error, or the program has given the link up in its middle. It never arrives whole.
    Failed,
}

/// The jobs of one task. Their numbers are the indices.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskLog {
    pub(crate) fates: Vec<Fate>,
    /// From this job on, in the calm, every written job arrives, and on one link.
    pub(crate) calm_from: Option<usize>,
}

/// What the server has received on one link: task and job, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkLog {
    pub(crate) arrived: Vec<(u32, u64)>,
    /// It was accepted in the calm, so the server never ends it.
    pub(crate) is_calm: bool,
    /// How many bytes of a frame were received after the last whole one.
    pub(crate) cut: usize,
}

/// Everything that contradicts the promises, as text.
///
/// - No job arrives twice, and none that has failed.
/// - The jobs of one task arrive in order, on each link and from link to link.
/// - Between two jobs of a task on one link no written job is missing: what is lost with a link is its end.
/// - In the calm, nothing is lost and no frame is cut.
pub(crate) fn violations(tasks: &[TaskLog], links: &[LinkLog]) -> Vec<String> {
    let mut found = Vec::new();
    let mut arrived = HashSet::new();
    let mut newest: HashMap<u32, u64> = HashMap::new();
    for (number, link) in (1..).zip(links) {
        let mut before: HashMap<u32, u64> = HashMap::new();
        for &(task, job) in &link.arrived {
            let name = format!("job {job} of task {task} on link {number}");
            match tasks.get(task as usize).and_then(|task| task.fates.get(job as usize)) {
                None => found.push(format!("{name}: never written")),
                Some(Fate::Failed) => found.push(format!("{name}: has failed, and arrived whole")),
                Some(Fate::Written | Fate::Unknown) => {}
            }
            if !arrived.insert((task, job)) {
                found.push(format!("{name}: arrived twice"));
            }
            if let Some(newest) = newest.insert(task, job).filter(|newest| *newest > job) {
                found.push(format!("{name}: arrived after job {newest}"));
            }
            if let Some(before) = before.insert(task, job) {
                let lost = written(tasks, task, before + 1, job);
                found.extend(lost.map(|lost| format!("job {lost} of task {task} on link {number}: lost before {job}")));
            }
        }
    }
    // The client may have broken earlier ones before it calmed down.
    let Some(calm) = links.iter().rfind(|link| link.is_calm) else { return found };
    let arrived: HashSet<_> = calm.arrived.iter().collect();
    for (task, log) in (0..).zip(tasks) {
        let Some(first) = log.calm_from.map(|job| job as u64) else { continue };
        let lost = written(tasks, task, first, log.fates.len() as u64).filter(|job| !arrived.contains(&(task, *job)));
        found.extend(lost.map(|job| format!("job {job} of task {task}: lost in the calm")));
    }
    if calm.cut > 0 && tasks.iter().any(|log| log.calm_from.is_some()) {
        found.push(format!("{} bytes of a frame at the end of the calm", calm.cut));
    }
    found
}

/// The written jobs of a task from `first` to before `end`.
fn written(tasks: &[TaskLog], task: u32, first: u64, end: u64) -> impl Iterator<Item = u64> {
    let fates = tasks.get(task as usize).map_or(&[][..], |task| &task.fates);
    (first..end).filter(|job| fates.get(*job as usize) == Some(&Fate::Written))
}

/// The checker itself: it finds each fault that it is there for.
#[cfg(test)]
mod tests {
    use super::*;

    /// Two tasks, each with six written jobs, in the calm from job 3 on.
    fn tasks() -> Vec<TaskLog> {
        vec![TaskLog { fates: vec![Fate::Written; 6], calm_from: Some(3) }; 2]
    }

    /// The first link loses its end, the second is the calm one.
    fn links() -> Vec<LinkLog> {
        let first = LinkLog { arrived: vec![(0, 0), (1, 0), (1, 1)], is_calm: false, cut: 9 };
        let calm = [(0, 2), (0, 3), (1, 2), (0, 4), (1, 3), (1, 4), (1, 5), (0, 5)];
        vec![first, LinkLog { arrived: calm.to_vec(), is_calm: true, cut: 0 }]
    }

    #[track_caller]
    fn assert_caught(tasks: &[TaskLog], links: &[LinkLog], expected: &str) {
        let found = violations(tasks, links);
        assert!(found.iter().any(|text| text.contains(expected)), "expected {expected:?}, found {found:?}");
    }

    #[test]
    fn what_was_lost_with_the_end_of_a_link_is_no_fault() {
        assert_eq!(violations(&tasks(), &links()), [""; 0]);
    }

    #[test]
    fn doubled_job_is_caught_on_one_link_and_on_two() {
        let mut on_one = links();
        on_one[1].arrived.insert(2, (0, 3));
        assert_caught(&tasks(), &on_one, "job 3 of task 0 on link 2: arrived twice");
        let mut on_two = links();
        on_two[1].arrived.insert(0, (1, 1));
        assert_caught(&tasks(), &on_two, "job 1 of task 1 on link 2: arrived twice");
    }

    #[test]
    fn lost_job_is_caught_in_the_calm_and_in_the_middle_of_any_link() {
        let mut at_the_end = links();
        at_the_end[1].arrived.pop();
        assert_caught(&tasks(), &at_the_end, "job 5 of task 0: lost in the calm");
        let mut in_the_storm = links();
        in_the_storm[0].arrived.insert(1, (0, 2));
        in_the_storm[1].arrived.remove(0);
        assert_caught(&tasks(), &in_the_storm, "job 1 of task 0 on link 1: lost before 2");
    }

    #[test]
    fn swapped_jobs_are_caught_on_one_link_and_on_two() {
        let mut on_one = links();
        on_one[1].arrived.swap(1, 3);
        assert_caught(&tasks(), &on_one, "job 3 of task 0 on link 2: arrived after job 4");
        let mut on_two = links();
        on_two[0].arrived[0] = (0, 2);
        on_two[1].arrived[0] = (0, 1);
        assert_caught(&tasks(), &on_two, "job 1 of task 0 on link 2: arrived after job 2");
    }

    #[test]
    fn failed_job_that_arrives_is_caught() {
        let mut tasks = tasks();
        tasks[1].fates[1] = Fate::Failed;
        assert_caught(&tasks, &links(), "job 1 of task 1 on link 1: has failed, and arrived whole");
    }

    #[test]
    fn job_that_nobody_wrote_is_caught() {
        let mut links = links();
        links[1].arrived.push((1, 6));
        assert_caught(&tasks(), &links, "job 6 of task 1 on link 2: never written");
    }

    #[test]
    fn frame_that_is_cut_in_the_calm_is_caught() {
        let mut links = links();
        links[1].cut = 1;
        assert_caught(&tasks(), &links, "1 bytes of a frame at the end of the calm");
    }

    #[test]
    fn cancelled_job_may_arrive_or_not() {
        let mut tasks = tasks();
        tasks[0].fates[3] = Fate::Unknown;
        let mut links = links();
        assert_eq!(violations(&tasks, &links), [""; 0]);
        links[1].arrived.remove(1);
        assert_eq!(violations(&tasks, &links), [""; 0]);
    }
}
