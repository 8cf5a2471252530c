//! A pseudo-terminal.

use std::fs::File;
use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The side that an emulator holds, and the side that programs hold. (A command holds its side until it is dropped.)
pub(crate) fn terminal() -> (File, File) {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&control).and_then(|()| unlockpt(&control)).expect("it is ours");
    let name = ptsname(&control, Vec::new()).expect("it has a name");
    let programs = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other side");
    (control.into(), programs.into())
}

/// Everything that programs write on a terminal, until none of them holds it any more.
pub(crate) fn written_on(control: &File) -> Receiver<Vec<u8>> {
    let mut control = control.try_clone().expect("a descriptor");
    let (sender, pieces) = channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        // A terminal whose other side has gone fails; that is the end.
        while let Ok(count @ 1..) = control.read(&mut bytes) {
            let _ = sender.send(bytes[..count].to_vec());
        }
    });
    pieces
}
