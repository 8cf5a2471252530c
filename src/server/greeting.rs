//! The greeting to every client: a fixed text, or a text that names the server and the client.

use crate::net::{Peer, Socket};

/// A text with placeholders. The default is none at all.
///
/// ```
/// use echoloop::Greeting;
///
/// let greeting = Greeting::parse(b"this is {host} at {local}, and you are {peer} {{in braces}}\n")?;
/// assert!(Greeting::parse(b"hello {world}").is_err());
/// # Ok::<(), echoloop::GreetingError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Host,
    Local,
    Peer,
}

/// A mistake in the text of a greeting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// No placeholder has this name.
    #[error(
        "`{{{0}}}` stands for nothing: there are {{host}}, {{local}} and {{peer}} (write a brace twice to send one)"
    )]
    Unknown(String),
    /// A brace that is not one of a pair.
    #[error(
        "a `{0}` stands alone: there are {{host}}, {{local}} and {{peer}} (write a brace twice to send one)"
    )]
    Alone(char),
}

impl Greeting {
    /// Reads `{host}`, `{local}` and `{peer}` as placeholders, and a doubled brace as one brace.
    ///
    /// # Errors
    /// When there is another placeholder, or a single brace.
    pub fn parse(text: &[u8]) -> Result<Greeting, GreetingError> {
        let (mut pieces, mut plain) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((&byte, behind)) = rest.split_first() {
            rest = behind;
            match byte {
                b'{' | b'}' if rest.first() == Some(&byte) => {
                    plain.push(byte);
                    rest = &rest[1..];
                }
                b'{' => {
                    let end = rest.iter().position(|&byte| byte == b'}');
                    let (name, behind) = rest.split_at(end.ok_or(GreetingError::Alone('{'))?);
                    rest = &behind[1..];
                    pieces.extend(Greeting::text(&mut plain));
                    pieces.push(Piece::named(name)?);
                }
                b'}' => return Err(GreetingError::Alone('}')),
                _ => plain.push(byte),
            }
        }
        pieces.extend(Greeting::text(&mut plain));
        Ok(Greeting(pieces))
    }

    /// A greeting of exactly these bytes. Braces in them mean nothing.
    pub fn fixed(bytes: &[u8]) -> Greeting {
        Greeting(Greeting::text(&mut bytes.to_vec()).into_iter().collect())
    }

    fn text(bytes: &mut Vec<u8>) -> Option<Piece> {
        (!bytes.is_empty()).then(|| Piece::Text(std::mem::take(bytes)))
    }
}

impl Piece {
    fn named(name: &[u8]) -> Result<Piece, GreetingError> {
        match name {
            b"host" => Ok(Piece::Host),
            b"local" => Ok(Piece::Local),
            b"peer" => Ok(Piece::Peer),
            _ => Err(GreetingError::Unknown(name.escape_ascii().to_string())),
        }
    }
}

/// Writes the greetings of one server.
#[derive(Debug)]
pub(crate) struct Greeter {
    greeting: Greeting,
    host: String,
    written: Vec<u8>,
}

impl Greeter {
    pub(crate) fn new(greeting: Greeting) -> Greeter {
        // Ask for the name only once: it hardly ever changes.
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Greeter { greeting, host, written: Vec::new() }
    }

    /// The first bytes to this client. This writes a greeting anew only if it has placeholders.
    pub(crate) fn greet(&mut self, peer: &Peer, socket: &Socket) -> &[u8] {
        match &self.greeting.0[..] {
            [] => return &[],
            [Piece::Text(text)] => return text,
            _ => {}
        }
        self.written.clear();
        for piece in &self.greeting.0 {
            match piece {
                Piece::Text(text) => self.written.extend(text),
                Piece::Host => self.written.extend(self.host.as_bytes()),
                Piece::Local => self.written.extend(local(socket).as_bytes()),
                Piece::Peer => self.written.extend(peer.to_string().as_bytes()),
            }
        }
        &self.written
    }
}

/// The address of our end of a connection, written like that of a peer.
fn local(socket: &Socket) -> String {
    let shown = match socket {
        Socket::Tcp(stream) => stream.local_addr().map(|address| Peer::from(address).to_string()),
        Socket::Unix(stream) => stream.local_addr().map(|address| match address.as_pathname() {
            Some(path) => format!("unix:{}", path.display()),
            None => "unix".into(),
        }),
    };
    // If the connection has gone, nobody will read this.
    shown.unwrap_or_else(|_| "unknown".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn placeholders_are_found_and_braces_are_written_twice() {
        let parse = |text: &str| Greeting::parse(text.as_bytes()).expect("well formed").0;
        assert_eq!(parse(""), []);
        assert_eq!(parse("hello\n"), [text("hello\n")]);
        assert_eq!(
            parse("{host} at {local}{peer}!"),
            [Piece::Host, text(" at "), Piece::Local, Piece::Peer, text("!")]
        );
        assert_eq!(parse("{{host}}"), [text("{host}")]);
        assert_eq!(parse("{{{peer}}}"), [text("{"), Piece::Peer, text("}")]);
    }

    #[test]
    fn what_is_unknown_is_named_and_so_is_what_is_known() {
        for (wrong, name) in
            [("{hosts}", "`{hosts}`"), ("a{}b", "`{}`"), ("{h\n", "`{`"), ("}", "`}`"), ("{{}", "`}`")]
        {
            let error = Greeting::parse(wrong.as_bytes()).expect_err(wrong).to_string();
            assert!(error.contains(name) && error.contains("{host}, {local} and {peer}"), "{error}");
        }
    }

    proptest! {
        /// Any text with its braces doubled is sent as it is.
        #[test]
        fn any_text_can_be_said(text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'{'), Just(b'}')], 0..40)) {
            let doubled: Vec<u8> =
                text.iter().flat_map(|&byte| std::iter::repeat_n(byte, if b"{}".contains(&byte) { 2 } else { 1 })).collect();
            prop_assert_eq!(Greeting::parse(&doubled), Ok(Greeting::fixed(&text)));
            // And as it is, it is understood or refused.
            let _ = Greeting::parse(&text);
        }
    }
}
