//! The server, run as the program that it is.
