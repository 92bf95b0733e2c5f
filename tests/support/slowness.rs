//! How slow the machine is.

/// How many times longer than usual a wait may take before it counts as one that hangs. It is `PERCONN_SLOWNESS` at the time of the
/// build: more than 1 where a program plays the processor or the kernel, as in `scripts/portability`.
pub const SLOWNESS: u32 = match option_env!("PERCONN_SLOWNESS") {
    Some(text) => match u32::from_str_radix(text, 10) {
        Ok(times) => times,
        Err(_) => panic!("PERCONN_SLOWNESS is no number"),
    },
    None => 1,
};
