//! What the demo says to programs is an interface.

use crate::demo::Ready;

#[test]
fn the_json_line_has_exactly_the_fields_that_the_readme_lists() {
    let ready = Ready {
        endpoint_url: String::new(),
        dashboard_url: String::new(),
        operator_link: String::new(),
        api_url: String::new(),
        api_key: String::new(),
        auth_url: String::new(),
        issuer_url: String::new(),
        ca_file: String::new(),
        authtoken: String::new(),
        agent_bin: String::new(),
        edge_bin: String::new(),
        agent_pid: 1,
        edge_pids: vec![2],
        edge_urls: vec![String::new()],
        data_dir: String::new(),
        app_port: 3,
    };
    let json = serde_json::to_value(&ready).unwrap();
    let mut fields: Vec<&str> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    let mut wanted = [
        "endpoint_url",
        "dashboard_url",
        "operator_link",
        "api_url",
        "api_key",
        "auth_url",
        "issuer_url",
        "ca_file",
        "authtoken",
        "agent_bin",
        "edge_bin",
        "agent_pid",
        "edge_pids",
        "edge_urls",
        "data_dir",
    ];
    wanted.sort_unstable();
    assert_eq!(fields, wanted);
}
