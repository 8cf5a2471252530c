//! `echoloop doctor` on this machine, and as the server counts.

use serde_json::Value;

use crate::support::{Server, program, run, with_descriptors};

#[test]
fn one_connection_is_reachable_and_very_many_are_not() {
    let one = run(program(&["doctor", "--connections", "1"]));
    assert_eq!((one.code, one.stderr.as_str()), (Some(0), ""), "{one:?}");
    assert!(one.stdout.contains("as a server: ") && one.stdout.contains("enough for 1;"), "{one:?}");
    let many = run(program(&["doctor", "-n", "4000000000"]));
    assert_eq!(many.code, Some(1), "{many:?}");
    for part in ["not 4000000000; the first limit: ", "to reach 4000000000:", "source addresses"] {
        assert!(many.stdout.contains(part), "nothing of {part:?} in\n{}", many.stdout);
    }
    assert_eq!(run(program(&["doctor"])).code, Some(0));
}

#[test]
fn it_counts_as_the_server_does() {
    let reachable = run(with_descriptors(200, &["doctor", "--json", "--role", "server"])).json();
    assert_eq!(reachable["server"]["first_limit"], "descriptors of a process");
    assert_eq!(reachable["client"], Value::Null);
    let most = reachable["server"]["reachable"].as_u64().expect("a number");
    let server = Server::spawn(with_descriptors(200, &["127.0.0.1:0"]), 1);
    server.await_log(&format!("at most {most} connections"));
}

#[test]
fn the_server_names_the_same_remedy() {
    let report = run(with_descriptors(200, &["doctor", "-n", "1000", "--json"]));
    assert_eq!(report.code, Some(1));
    let report = report.json();
    let limits = report["limits"].as_array().expect("limits");
    let limit = limits.iter().find(|limit| limit["name"] == "descriptors of a process").expect("it is known");
    let remedy = limit["remedy"].as_str().expect("it is too low");
    let refused = run(with_descriptors(200, &["--max-connections", "1000", "127.0.0.1:0"]));
    assert!(refused.stderr.contains(remedy), "nothing of {remedy:?} in {refused:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_remedy_of_the_descriptor_limit_works() {
    let refused = run(with_descriptors(200, &["doctor", "-n", "300", "--role", "server"]));
    assert!(refused.stdout.contains("LimitNOFILE=333"), "{refused:?}");
    let raised = run(with_descriptors(333, &["doctor", "-n", "300", "--role", "server"]));
    assert_eq!(raised.code, Some(0), "{raised:?}");
    // On Linux `doctor` reads all limits that it promises, or says which ones it can't read.
    assert!(raised.stdout.contains("fs.nr_open") && raised.stdout.contains("ListenOverflows"), "{raised:?}");
}

#[test]
fn wrong_usage_is_refused() {
    for arguments in
        [&["doctor", "-n", "0"] as &[_], &["doctor", "--role", "router"], &["doctor", "--sources", "x"]]
    {
        assert_eq!(run(program(arguments)).code, Some(2), "{arguments:?}");
    }
}
