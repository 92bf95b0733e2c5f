//! What the process takes of the machine, by which a leak would show.

/// What the process uses at one moment. `None`: the platform does not say.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// Resident memory, in kB.
    pub(crate) memory: Option<u64>,
    /// Open descriptors.
    pub(crate) descriptors: Option<usize>,
    /// Tasks of the runtime.
    pub(crate) tasks: usize,
}

impl Usage {
    pub(crate) fn now() -> Self {
        Self {
            memory: memory(),
            // The look itself opens one.
            descriptors: std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1)),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        }
    }

    /// Whether everything that was taken since was given back, memory aside: allocators keep some.
    pub(crate) fn is_back_at(&self, start: &Self) -> bool {
        // After Ctrl-C it is one task less.
        self.tasks <= start.tasks && self.descriptors <= start.descriptors
    }
}

fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
