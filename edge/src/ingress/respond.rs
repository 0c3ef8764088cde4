//! stub
use crate::{auth::Reply, ingress::body::ResponseBody};
use http::{Request, Response};
use proto::{code::Code, id::RequestId};
pub(crate) struct Asker {
    pub(crate) request_id: RequestId,
}
impl Asker {
    pub(crate) fn of<B>(request_id: RequestId, _: &Request<B>) -> Self {
        Self { request_id }
    }
}
pub(crate) fn failure(_: Code, _: &Asker) -> Response<ResponseBody> {
    Response::new(bytes::Bytes::new().into())
}
pub(crate) fn reply(_: Reply, _: &Asker) -> Response<ResponseBody> {
    Response::new(bytes::Bytes::new().into())
}
