//! stub
pub(crate) mod permit;
use crate::route::table::Route;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
pub(crate) use permit::Permit;
use proto::code::Code;
use std::net::IpAddr;
#[derive(Debug)]
pub(crate) struct Auth;
pub(crate) enum Verdict {
    Allow(Permit),
    Login(Reply),
    Deny(Code),
}
pub(crate) struct Reply;
impl Auth {
    pub(crate) async fn authorize(
        &self,
        _: &Route,
        _: &http::request::Parts,
        _: IpAddr,
    ) -> Verdict {
        Verdict::Deny(Code::Internal)
    }
    pub(crate) fn is_reserved(path: &str) -> bool {
        path.starts_with("/.sallyport")
    }
    pub(crate) async fn endpoint_path(
        &self,
        _: &Route,
        _: http::Request<Bytes>,
        _: IpAddr,
    ) -> Reply {
        Reply
    }
    pub(crate) async fn auth_host(&self, _: http::Request<Bytes>, _: IpAddr) -> Reply {
        Reply
    }
    pub(crate) fn identity_headers(&self, _: &Permit) -> Vec<(HeaderName, HeaderValue)> {
        vec![]
    }
}
