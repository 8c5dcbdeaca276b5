//! Packets on a socket ("Protocol Basics: MySQL Packets").
//!
//! A packet is cut into frames: length (3 bytes, little-endian), sequence number (1 byte), then
//! that many bytes. After a frame of 16,777,215 bytes follows another one of the same packet; the
//! last frame of a packet is shorter, and may be empty. The sequence number rises by one with every
//! frame in either direction and begins with 0 for each command.

use std::time::Duration;

use backstop_types::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Length of a frame that is continued by another one, in bytes.
pub(crate) const FULL_FRAME_BYTES: usize = 0xff_ffff;
/// Largest packet that is buffered as a whole, in bytes. Ordinary answers are far smaller.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Size of one read from the socket, in bytes.
const READ_BYTES: usize = 128 * 1024;

/// Reader of packets, in parts of any size. Every wait ends at the deadline.
pub(crate) struct PacketReader<R> {
    input: R,
    buffer: BytesMut,
    /// Number of unread bytes of the frame.
    left: usize,
    /// True if the frame is not the packet's last.
    continued: bool,
    /// Sequence number of the last frame begun.
    sequence: u8,
    deadline: Duration,
}

/// Writer of packets. Every wait ends at the deadline.
pub(crate) struct PacketWriter<W> {
    output: W,
    deadline: Duration,
}

/// Result of waiting for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketArrival {
    /// A packet begins.
    Packet,
    /// No byte arrived in the given time.
    Nothing,
}

impl<R: AsyncRead + Unpin> PacketReader<R> {
    pub(crate) fn new(input: R, deadline: Duration) -> Self {
        Self { input, buffer: BytesMut::new(), left: 0, continued: false, sequence: 0, deadline }
    }

    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Returns the sequence number of the last frame.
    pub(crate) fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Returns the socket. Fails if bytes were read ahead, since they would be lost.
    pub(crate) fn into_inner(self) -> Result<R> {
        if self.buffer.is_empty() {
            return Ok(self.input);
        }
        Err(Error::failed("cannot start TLS: the peer sent data before encryption began"))
    }

    /// Waits until a packet begins, at most this long. Cancel-safe.
    pub(crate) async fn arrival(&mut self, wait: Duration) -> Result<PacketArrival> {
        if !self.buffer.is_empty() {
            return Ok(PacketArrival::Packet);
        }
        self.buffer.reserve(READ_BYTES);
        match tokio::time::timeout(wait, self.input.read_buf(&mut self.buffer)).await {
            Ok(read) => ended(read.map_err(connection_lost)?).map(|()| PacketArrival::Packet),
            Err(_) => Ok(PacketArrival::Nothing),
        }
    }

    /// Begins the next packet. The previous one must have been read to its end.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        if self.left > 0 || self.continued {
            return Err(Error::failed("cannot read a packet: the previous one was not read to its end"));
        }
        self.frame().await
    }

    /// Returns the next part of the packet, at most `limit` bytes; `None` at its end.
    pub(crate) async fn read_chunk(&mut self, limit: usize) -> Result<Option<Bytes>> {
        while self.left == 0 {
            if !self.continued {
                return Ok(None);
            }
            self.frame().await?;
        }
        if self.buffer.is_empty() {
            self.fill(1).await?;
        }
        let length = limit.min(self.left).min(self.buffer.len());
        self.left -= length;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Returns the next `length` bytes of the packet, or fewer if it ends earlier.
    pub(crate) async fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < length
            && let Some(chunk) = self.read_chunk(length - bytes.len()).await?
        {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Returns the rest of the packet.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.read_chunk(READ_BYTES).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(Error::failed("cannot read a packet: it exceeds the maximum size of an answer"));
            }
        }
        Ok(bytes)
    }

    /// Returns a whole packet.
    pub(crate) async fn packet(&mut self) -> Result<Vec<u8>> {
        self.begin().await?;
        self.rest().await
    }

    async fn frame(&mut self) -> Result<()> {
        self.fill(4).await?;
        let header = self.buffer.split_to(4);
        self.left = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        self.continued = self.left == FULL_FRAME_BYTES;
        self.sequence = header[3];
        Ok(())
    }

    /// Reads until the buffer holds this many bytes.
    async fn fill(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length {
            self.buffer.reserve(READ_BYTES);
            let read = tokio::time::timeout(self.deadline, self.input.read_buf(&mut self.buffer)).await;
            let late =
                |_| Error::failed(format!("cannot read a packet: nothing arrived in {:?}", self.deadline));
            ended(read.map_err(late)?.map_err(connection_lost)?)?;
        }
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> PacketWriter<W> {
    pub(crate) fn new(output: W, deadline: Duration) -> Self {
        Self { output, deadline }
    }

    pub(crate) fn into_inner(self) -> W {
        self.output
    }

    /// Writes a whole packet; its first frame has this number. Returns the number after its last
    /// frame.
    pub(crate) async fn packet(&mut self, sequence: u8, payload: &[u8]) -> Result<u8> {
        let mut frames = FrameHeaders::new(sequence, payload.len() as u64);
        self.write_chunk(&mut frames, payload).await?;
        self.flush().await?;
        Ok(frames.sequence)
    }

    /// Writes the next bytes of a packet of known length, with frame headers where frames begin.
    pub(crate) async fn write_chunk(&mut self, frames: &mut FrameHeaders, mut bytes: &[u8]) -> Result<()> {
        loop {
            if let Some(header) = frames.header() {
                self.write(&header).await?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let (now, later) = bytes.split_at(bytes.len().min(frames.room()));
            if now.is_empty() {
                return Err(Error::failed("cannot write a packet: it is longer than announced"));
            }
            self.write(now).await?;
            frames.wrote(now.len());
            bytes = later;
        }
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        let flushed = tokio::time::timeout(self.deadline, self.output.flush()).await;
        flushed.map_err(|_| self.late())?.map_err(connection_lost)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = tokio::time::timeout(self.deadline, self.output.write_all(bytes)).await;
        written.map_err(|_| self.late())?.map_err(connection_lost)
    }

    fn late(&self) -> Error {
        Error::failed(format!("cannot write a packet: the peer accepted no data in {:?}", self.deadline))
    }
}

/// Positions of the frame headers in a packet of known length.
#[derive(Debug)]
pub(crate) struct FrameHeaders {
    /// Sequence number of the next frame.
    pub(crate) sequence: u8,
    /// Bytes of the packet whose frame has not begun; `None` once the last frame has begun.
    unframed: Option<u64>,
    /// Bytes still missing in the current frame.
    room: usize,
}

impl FrameHeaders {
    pub(crate) fn new(sequence: u8, length: u64) -> Self {
        Self { sequence, unframed: Some(length), room: 0 }
    }

    fn room(&self) -> usize {
        self.room
    }

    fn wrote(&mut self, length: usize) {
        self.room -= length;
    }

    /// Returns the header of the next frame, if one begins here.
    fn header(&mut self) -> Option<[u8; 4]> {
        let unframed = self.unframed.filter(|_| self.room == 0)?;
        let length = usize::try_from(unframed).unwrap_or(FULL_FRAME_BYTES).min(FULL_FRAME_BYTES);
        self.unframed = (length == FULL_FRAME_BYTES).then(|| unframed - FULL_FRAME_BYTES as u64);
        self.room = length;
        let header = [length as u8, (length >> 8) as u8, (length >> 16) as u8, self.sequence];
        self.sequence = self.sequence.wrapping_add(1);
        Some(header)
    }
}

/// Converts an error of the socket.
fn connection_lost(error: std::io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Error::failed(format!("TLS: {error}")),
        None => Error::failed(format!("the connection failed: {error}")),
    }
}

fn ended(read: usize) -> Result<()> {
    if read > 0 { Ok(()) } else { Err(Error::failed("the peer closed the connection")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn there_and_back(payload: &[u8]) -> (Vec<u8>, u8, u8, usize) {
        let mut connection = Vec::new();
        let next = PacketWriter::new(&mut connection, SECOND).packet(250, payload).await.unwrap();
        let frames = connection.len() - payload.len();
        let mut reader = PacketReader::new(&connection[..], SECOND);
        reader.begin().await.unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = reader.read_chunk(1_000_000).await.unwrap() {
            read.extend_from_slice(&chunk);
        }
        (read, next, reader.sequence(), frames / 4)
    }

    #[tokio::test]
    async fn packets_longer_than_a_frame_are_split_and_joined() {
        for (length, frames) in [
            (0, 1),
            (1, 1),
            (FULL_FRAME_BYTES - 1, 1),
            (FULL_FRAME_BYTES, 2),
            (FULL_FRAME_BYTES + 1, 2),
            (2 * FULL_FRAME_BYTES, 3),
        ] {
            let payload: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (read, next, last, used) = there_and_back(&payload).await;
            assert!(read == payload, "{length}");
            assert_eq!((used, next), (frames, last.wrapping_add(1)), "{length}");
        }
    }

    #[tokio::test]
    async fn silence_is_not_taken_for_the_end_of_the_connection() {
        let (near, _far) = tokio::io::duplex(64);
        let mut reader = PacketReader::new(near, Duration::from_millis(5));
        assert_eq!(reader.arrival(Duration::from_millis(5)).await.unwrap(), PacketArrival::Nothing);
        assert!(reader.packet().await.unwrap_err().message.contains("nothing arrived"));
        let mut ended = PacketReader::new(&b""[..], SECOND);
        assert!(ended.arrival(SECOND).await.unwrap_err().message.contains("closed"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let read = runtime.block_on(async {
                let mut reader = PacketReader::new(&bytes[..], SECOND);
                let mut read = 0;
                while let Ok(packet) = reader.packet().await {
                    read += packet.len() + 4;
                }
                read
            });
            prop_assert!(read <= bytes.len());
        }
    }
}
