//! Bind stub.
use crate::code::Code;
use alloc::{string::String, vec::Vec};
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct BindRequest {
    pub request: u32,
    pub url: Option<String>,
    pub generation: u64,
    pub upstream: String,
    pub pooling: bool,
    pub login: Option<LoginOptions>,
}
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct LoginOptions {
    pub provider: String,
    pub allow_emails: Vec<String>,
    pub allow_domains: Vec<String>,
}
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Notice {
    pub code: Code,
    pub message: String,
    pub next_step: String,
}
