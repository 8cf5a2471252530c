//! What a connection asks for its answers, whatever the protocol.

/// What turns input into output. It sees bytes and nothing else: no socket, no readiness.
pub trait Service {
    /// The most bytes of input that one call of [`Service::answer`] is given. What one read brought is cut into
    /// pieces of this size; a service that does not care where they end says `usize::MAX`. At least 1:
    /// 0 is taken for 1.
    fn chunk(&self) -> usize;

    /// Answers one chunk. The answer is what the call appends to `staged`, followed by [`Answer::bytes`], which may
    /// be the chunk itself, so that a plain echo copies nothing.
    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a>;

    /// Whether every byte is answered with itself and nothing else, wherever a chunk ends, so that bytes may be sent
    /// back without [`Service::answer`]. The connection makes use of it where buffers have run out.
    fn is_echo(&self) -> bool {
        false
    }
}

/// What a [`Service`] says to a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// Bytes to send, after those that were staged.
    pub bytes: &'a [u8],
    /// True if the connection is to end after this answer.
    pub last: bool,
}
