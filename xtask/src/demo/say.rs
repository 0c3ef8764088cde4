//! What the demo says: progress on standard error, the result on standard output.

use std::io::Write as _;
use std::time::Instant;

use crate::demo::Ready;
use crate::demo::parts::PROVIDER;
use crate::place::Place;

/// Says what happens and how long it took so far.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
}

impl Progress {
    pub(super) fn new(started: Instant) -> Self {
        Self { started }
    }

    pub(super) fn say(&self, what: &str) {
        eprintln!("[{:>6.1} s] {what}", self.started.elapsed().as_secs_f64());
    }
}

/// Says where everything is: one line for programs, or a page for people.
pub(super) fn ready(
    ready: &Ready,
    progress: &Progress,
    place: &Place,
    is_json: bool,
) -> anyhow::Result<()> {
    progress.say("ready");
    let mut out = std::io::stdout().lock();
    if is_json {
        serde_json::to_writer(&mut out, ready)?;
        writeln!(out)?;
    } else {
        out.write_all(page(ready, place).as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

fn page(ready: &Ready, place: &Place) -> String {
    let Ready {
        endpoint_url,
        operator_link,
        dashboard_url,
        api_url,
        api_key,
        issuer_url,
        ca_file,
        edge_bin,
        agent_bin,
        data_dir,
        authtoken,
        app_port,
        ..
    } = ready;
    // Another folder is another agent, which gets another name.
    let other_config_home = place.other_agent_config_home();
    let other_config_home = other_config_home.display();
    let logs = place.log_dir();
    let logs = logs.display();
    format!(
        "
  App         {endpoint_url}
              the app on port {app_port}, behind a login: sign in as ada, lin or mal (no passwords)
  Dashboard   {operator_link}
              signs you in, once; afterwards {dashboard_url}
              another link: {edge_bin} operator link --data-dir {data_dir}

  Your browser does not know this edge's certificates. Accept its warning, or let it trust
              {ca_file}

  Try
  1. Open the app and sign in as ada. The page shows who you are and a clock over a WebSocket.
  2. Open the dashboard in another window: ada, the endpoint, the trash can, confirm.
     The clock stops at once with code 1008, and the app's next page asks to sign in.
  3. See what a program gets, without a login and from the API:
       curl --cacert {ca_file} {endpoint_url}/
       curl --cacert {ca_file} -H 'Ngrok-Version: 2' \\
         -H 'Authorization: Bearer {api_key}' {api_url}/app/sessions
  4. Let in one e-mail domain only. lin is of another, and nobody has verified mal's address:
       XDG_CONFIG_HOME={other_config_home} SALLYPORT_AUTHTOKEN={authtoken} \\
         {agent_bin} http {app_port} --oauth={PROVIDER} --oauth-allow-domain=example.test
     Sign out at {issuer_url}/ to be somebody else.

  Logs        {logs}
  Ctrl-C ends everything.

",
    )
}
