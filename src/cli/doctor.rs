//! `echoloop doctor`: how many connections this machine can hold.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use echoloop::doctor::{Question, Report, Role};

use super::output::{FAILED, fail, print};
use super::values::at_least_one;

pub(super) const EXAMPLES: &str = "\
What is read: the descriptor limits of this process (soft, hard) and of the machine (fs.nr_open, fs.file-max),
fs.epoll.max_user_watches, net.core.somaxconn, the ephemeral ports, net.ipv4.tcp_mem, the memory that is available
to the machine and to the control group, the table of tracked connections, and ListenOverflows and ListenDrops since
the start of the machine. That is on Linux; on other systems it says what it can't read. Nothing is changed.

Server and client are judged apart: if both run on this machine, each connection costs it two sockets.

Examples:
  echoloop doctor                                        how many are reachable, and what comes first
  echoloop doctor --connections 100000                   are these? If not, the commands that make it so
  echoloop doctor --connections 100000 --role server     the same for a server, whose ports don't run out
  echoloop doctor --connections 100000 --sources 4       clients that connect from four addresses
  echoloop doctor --json | jq .server.reachable

Exit status:
  0  fine
  1  the connections asked for are not reachable
  2  wrong usage";

#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArguments {
    /// Say whether so many connections at once are reachable
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one)]
    connections: Option<u64>,

    /// The end of the connections that this machine is to be
    #[arg(long, value_name = "WHAT", default_value = "both")]
    role: End,

    /// Source addresses of a client, times the addresses and ports that it connects to: each pair has the ephemeral
    /// ports to itself
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    sources: u64,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum End {
    /// It accepts them
    Server,
    /// It makes them
    Client,
    /// Each is asked about
    Both,
}

/// Prints what the machine can hold. The status says whether that is enough.
pub(super) fn doctor(arguments: &DoctorArguments) -> ExitCode {
    let report = echoloop::doctor::examine(&arguments.question());
    match print(&arguments.show(&report)) {
        Ok(()) if report.is_reachable() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(FAILED),
        Err(error) => fail(FAILED, &format!("cannot write the report to standard output: {error}")),
    }
}

impl DoctorArguments {
    fn question(&self) -> Question {
        Question {
            connections: self.connections,
            role: match self.role {
                End::Server => Some(Role::Server),
                End::Client => Some(Role::Client),
                End::Both => None,
            },
            sources: self.sources,
        }
    }

    /// The report in the form that was asked for.
    fn show(&self, report: &Report) -> String {
        if self.json { report.to_json() } else { report.to_string() }
    }
}
