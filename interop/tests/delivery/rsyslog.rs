//! rsyslog, as a process of its own that needs no rights.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use perconn::codec::tokio_util::bytes::Bytes;
use tokio::time::sleep;

use crate::numbered::{Arrived, tag, tags_in};
use crate::real_server::{RealServer, program};
use crate::support::in_time;

/// Where the package has the modules, on Debian.
const MODULES: &str = "/usr/lib/x86_64-linux-gnu/rsyslog:/usr/lib/aarch64-linux-gnu/rsyslog:/usr/lib/rsyslog";

/// Starts rsyslog. `input` are the lines of its configuration that load and configure the input, which has the ruleset
/// `file`. Prints a line and returns `None` if it is not installed, or not with these modules.
///
/// The ruleset has no queue, and the file is not synced: what rsyslog answers is with the kernel. While it cannot write
/// the file, it waits.
pub fn rsyslog(test: &str, modules: &[&str], input: impl FnOnce(&Path, u16) -> String) -> Option<RealServer> {
    let test = format!("delivery: {test}");
    let program = program(&test, "rsyslogd", &["/usr/sbin"])?;
    for module in modules {
        let folders: Vec<_> = MODULES.split(':').collect();
        crate::real_server::program(&test, &format!("{module}.so"), &folders)?;
    }
    Some(RealServer::start("rsyslog", |folder, port| {
        let (root, input) = (folder.display(), input(folder, port));
        let config = format!(
            "global(workDirectory=\"{root}\" maxMessageSize=\"128k\")
            template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")
            ruleset(name=\"file\" queue.type=\"Direct\") {{
                action(type=\"omfile\" file=\"{root}/arrived\" template=\"raw\"
                    action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")
            }}
            {input}"
        );
        let file = folder.join("rsyslog.conf");
        fs::write(&file, config).unwrap();
        let folder = folder.to_owned();
        move || {
            // A kill leaves the file with its process id behind.
            let _ = fs::remove_file(folder.join("pid"));
            let mut command = Command::new(&program);
            command.arg("-n").arg("-f").arg(&file).arg("-i").arg(folder.join("pid"));
            command
        }
    }))
}

/// A whole syslog message of RFC 5424.
pub fn message(number: u64) -> Bytes {
    format!("<13>1 2026-11-30T19:00:00Z host app - - - {}", tag(number)).into()
}

/// What rsyslog has written, once the last message is in its file.
pub async fn arrived(server: &RealServer, messages: u64) -> Arrived {
    let read = || fs::read(server.folder.join("arrived")).unwrap_or_default();
    in_time("the last message", async {
        while !read().ends_with(format!("{}\n", tag(messages)).as_bytes()) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Arrived::count(messages, tags_in(&read()))
}
