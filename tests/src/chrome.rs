//! Real browsers: chromedriver on a port that it picks, chromium with a fresh profile each.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use thirtyfour::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::require;
use crate::wait;

/// A driver, and the browsers that it started. All of them are gone when it is dropped.
#[derive(Debug)]
pub struct Chrome {
    url: String,
    chromium: PathBuf,
    profiles: tempfile::TempDir,
    count: usize,
    _driver: Child,
}

impl Chrome {
    /// Starts the driver; `None` after saying why `test` is skipped.
    pub async fn start(test: &str) -> Option<Self> {
        let chromium = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find_map(require::find);
        let Some(chromium) = chromium else {
            require::missing("chromium", test);
            return None;
        };
        let driver = require::program("chromedriver", test)?;
        let mut command = Command::new(driver);
        command
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut driver = command.spawn().expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let port = wait::within("chromedriver's port", async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(port) = line
                    .strip_suffix('.')
                    .and_then(|line| line.rsplit_once("successfully on port "))
                {
                    return port.1.to_owned();
                }
            }
            panic!("chromedriver ended")
        })
        .await;
        // What it says later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profiles = tempfile::Builder::new()
            .prefix("sallyport-chrome-")
            .tempdir()
            .expect("a temporary folder");
        Some(Self {
            url: format!("http://127.0.0.1:{port}"),
            chromium,
            profiles,
            count: 0,
            _driver: driver,
        })
    }

    /// A browser with a profile of its own.
    pub async fn browser(&mut self) -> WebDriver {
        self.browser_with(&[]).await
    }

    /// As [`Chrome::browser`], with further arguments.
    pub async fn browser_with(&mut self, more: &[&str]) -> WebDriver {
        self.count += 1;
        let profile = self.profiles.path().join(format!("profile-{}", self.count));
        let mut wanted = DesiredCapabilities::chrome();
        wanted
            .set_binary(&self.chromium.display().to_string())
            .expect("a path");
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--window-size=1360,900",
            &format!("--user-data-dir={}", profile.display()),
        ] {
            wanted.add_arg(argument).expect("an argument");
        }
        for argument in more {
            wanted.add_arg(argument).expect("an argument");
        }
        wait::within("a browser", WebDriver::new(&self.url, wanted))
            .await
            .expect("a browser starts")
    }
}

impl Drop for Chrome {
    /// A driver that is killed leaves its browsers behind: they are found by their profile.
    fn drop(&mut self) {
        let profiles = self.profiles.path().display().to_string();
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return;
        };
        for process in processes.flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            if String::from_utf8_lossy(&command).contains(&profiles) {
                // Gone by now is as good.
                let _ = std::process::Command::new("kill")
                    .args(["-KILL", &pid.to_string()])
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}

/// Waits for an element that is shown.
pub async fn shown(driver: &WebDriver, css: &str) -> WebElement {
    wait::until(&format!("{css} is shown"), || async {
        let element = driver.find(By::Css(css)).await.ok()?;
        element.is_displayed().await.ok()?.then_some(element)
    })
    .await
}

/// Waits until an element's text is as wanted, and gives it.
pub async fn text(driver: &WebDriver, css: &str, wanted: impl Fn(&str) -> bool) -> String {
    wait::until(&format!("the text of {css}"), || async {
        let text = driver.find(By::Css(css)).await.ok()?.text().await.ok()?;
        wanted(&text).then_some(text)
    })
    .await
}

/// Keeps a picture of what is shown.
pub async fn screenshot(driver: &WebDriver, folder: &Path, name: &str) {
    driver
        .screenshot(&folder.join(name))
        .await
        .expect("a screenshot");
}
