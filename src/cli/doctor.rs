//! `echoloop doctor`: how many connections this machine can hold.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use echoloop::doctor::{Question, Report, Role};

use super::output::{FAILED, fail, print};
use super::terminal;
use super::values::at_least_one;

pub(super) const EXAMPLES: &str = "\
The doctor reads the descriptor limits of this process (soft, hard) and of the machine (fs.nr_open, fs.file-max),
fs.epoll.max_user_watches, net.core.somaxconn, the ephemeral ports, net.ipv4.tcp_mem, the memory that is available
to the machine and to the control group, the table of tracked connections, and ListenOverflows and ListenDrops since
the start of the machine. On systems other than Linux it says which figures it can't read. It changes nothing.

It judges server and client apart: if both run on this machine, each connection costs the machine two sockets.

Examples:
  echoloop doctor
      how many connections are possible, and which limit comes first
  echoloop doctor --connections 100k
      are that many possible? If not, which commands allow them
  echoloop doctor --connections 100k --role server
      the same for a server, whose ports don't run out
  echoloop doctor --connections 100k --sources 4
      clients that connect from four addresses
  echoloop doctor --json | jq .server.reachable

Exit status:
  0  fine
  1  fewer connections are possible than --connections asks for
  2  wrong usage";

#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArguments {
    /// Say whether N connections at once are possible, and exit with 1 if not
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one)]
    connections: Option<u64>,

    /// Judge this machine as one end of the connections, or as both
    #[arg(long, value_name = "WHAT", default_value = "both")]
    role: End,

    /// How many pairs of source address and target (address and port) a client has: each pair has all ephemeral ports
    /// to itself
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    sources: u64,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum End {
    /// The end that accepts
    Server,
    /// The end that connects
    Client,
    /// Both ends, each for itself
    Both,
}

/// Prints the limits of this machine. The status says whether they allow the connections.
pub(super) fn doctor(arguments: &DoctorArguments) -> ExitCode {
    let report = echoloop::doctor::examine(&arguments.question());
    match print(&arguments.show(&report)) {
        Ok(()) if report.is_reachable() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(FAILED),
        Err(error) => fail(FAILED, &error),
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

    /// The report, for people or for programs.
    fn show(&self, report: &Report) -> String {
        if self.json { report.to_json() } else { terminal::wrapped(&report.to_string()) }
    }
}
