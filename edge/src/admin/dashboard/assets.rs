//! The files beside the pages: one style sheet, one script, an icon, all in the binary.

use http::header::CONTENT_TYPE;

type File = ([(http::HeaderName, &'static str); 1], &'static str);

pub(super) async fn style() -> File {
    (
        [(CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("../../../assets/dashboard.css"),
    )
}

pub(super) async fn script() -> File {
    (
        [(CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("../../../assets/dashboard.js"),
    )
}

pub(super) async fn icon() -> File {
    (
        [(CONTENT_TYPE, "image/svg+xml")],
        include_str!("../../../assets/dashboard.svg"),
    )
}
