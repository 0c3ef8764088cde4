//! Head stub.
use crate::{code::Code, id::EndpointId};
use alloc::string::String;
use bytes::{Bytes, BytesMut};
/// Kind.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum StreamKind {
    Http,
    Probe,
}
/// Head.
#[derive(Debug)]
pub struct StreamHead;
impl StreamHead {
    #[allow(missing_docs)]
    pub fn new(_: StreamKind, _: EndpointId, _: u64) -> Self {
        Self
    }
    #[allow(missing_docs)]
    pub fn encode(&self) -> Bytes {
        Bytes::new()
    }
}
/// Ack.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Ack {
    Accept,
    Refuse { code: Code, message: String },
}
impl Ack {
    #[allow(missing_docs)]
    pub fn decode(_: &mut BytesMut) -> Result<Option<Self>, ()> {
        Ok(None)
    }
}
