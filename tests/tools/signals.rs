//! Signals that end every command: while it resolves a name, and when its terminal goes.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Process, Server, eventually, program};

/// The resolver of the GNU C library opens the file of aliases that `hostname(7)` describes. A FIFO holds it up as long
/// as one likes.
#[cfg(target_env = "gnu")]
#[test]
fn ctrl_c_ends_a_command_that_resolves_a_name() {
    for arguments in [&["serve", "stuck:0"] as &[_], &["send", "stuck", "hello"], &["load", "stuck"]] {
        let directory = tempdir().expect("a directory");
        let aliases = directory.path().join("aliases");
        mknodat(CWD, &aliases, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        let mut command = program(arguments);
        command.env("HOSTALIASES", &aliases);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::spawn(&mut command);
        // There is a writer's end only once somebody reads.
        let mut writer = None;
        eventually("it resolves the name", || {
            assert!(process.is_running(), "{arguments:?} does not ask for aliases");
            let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
            writer = OpenOptions::new().write(true).custom_flags(nonblocking).open(&aliases).ok();
            writer.is_some()
        });
        process.signal(Signal::INT);
        assert_eq!(process.wait().signal(), Some(Signal::INT.as_raw()), "{arguments:?}");
    }
}

#[test]
fn a_server_whose_terminal_goes_ends_in_order() {
    let server = Server::on_ipv4(&[]);
    let client = server.connect();
    client.echo(b"before");
    server.signal(Signal::HUP);
    client.receive_rest();
    drop(client);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("stopped: 1 connections served"), "{log}");
}

#[test]
fn under_nohup_a_server_goes_on() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" 127.0.0.1:0", env!("CARGO_BIN_EXE_echoloop")]);
    let server = Server::spawn(command, 1);
    server.signal(Signal::HUP);
    server.connect().echo(b"after");
    let (status, _) = server.stop();
    assert_eq!(status.code(), Some(0));
}
