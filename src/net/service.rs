//! The service behind a connection, which turns input into output.

/// Turns input into output. A service sees bytes and nothing else: no socket, no readiness.
pub trait Service {
    /// The most bytes of input that one call of [`Service::answer`] gets. The connection cuts the bytes of each read
    /// into chunks of this size; a service that does not care where chunks end says `usize::MAX`. 0 counts as 1.
    fn chunk(&self) -> usize;

    /// Answers one chunk. The answer is what the call appends to `staged`, followed by [`Answer::bytes`], which may
    /// be the chunk itself, so that a plain echo copies nothing.
    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a>;

    /// Whether the service answers every byte with itself and nothing else, wherever a chunk ends. Then a connection
    /// may send bytes back without [`Service::answer`]. It does so with bulk data, and when buffers have run out.
    fn is_echo(&self) -> bool {
        false
    }
}

/// The answer of a [`Service`] to a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// Bytes to send behind the staged ones.
    pub bytes: &'a [u8],
    /// True if the connection is to end after this answer.
    pub last: bool,
}
