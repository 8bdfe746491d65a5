//! A headless Chromium with its own profile, and its tabs.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::devtools::DevTools;
use crate::harness::{process::Process, wait::try_until};

/// How long a test waits for something to become true.
const PATIENCE: Duration = Duration::from_secs(30);
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
];

/// The browser program: `NATTER_CHROMIUM`, or the first of the usual names on `PATH`.
fn find() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os("NATTER_CHROMIUM").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() { Ok(path) } else { Err(format!("NATTER_CHROMIUM: no file {}", path.display())) };
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
        .ok_or_else(|| "no chromium on PATH: install it, or name one in NATTER_CHROMIUM".to_owned())
}

/// Whether these tests can run here, and if not, why.
pub fn available() -> Result<(), String> {
    find().map(drop)
}

/// A running browser; dropping it ends the browser and removes its profile.
pub struct Browser {
    devtools: DevTools,
    host: String,
    // Dropped in this order: the profile is removed when nothing writes to it any more.
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser and waits until it accepts commands.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(find().unwrap());
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::null());
        let mut process = Process::start(command);
        let file = profile.path().join("DevToolsActivePort");
        let written = async || port_and_path(&file).is_some();
        process.ready_within(PATIENCE, "the browser takes commands", written).await;
        let (port, path) = port_and_path(&file).unwrap();
        let host = format!("ws://127.0.0.1:{port}");
        let devtools = DevTools::connect(&format!("{host}{path}")).await;
        Self { devtools, host, _process: process, _profile: profile }
    }

    /// Opens a tab in its own window, so that every page counts as visible.
    pub async fn open(&mut self, url: &str) -> Tab {
        let window = json!({"url": "about:blank", "newWindow": true});
        let made = self.devtools.call("Target.createTarget", window).await;
        let id = made["targetId"].as_str().unwrap().to_owned();
        let devtools = DevTools::connect(&format!("{}/devtools/page/{id}", self.host)).await;
        let mut tab = Tab { devtools, id };
        tab.devtools.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true})).await;
        tab.devtools.call("Page.navigate", json!({"url": url})).await;
        tab
    }

    /// Closes a tab as a person does.
    pub async fn close(&mut self, tab: Tab) {
        self.devtools.call("Target.closeTarget", json!({"targetId": tab.id})).await;
    }
}

/// Where it accepts commands, once it has written that down.
fn port_and_path(file: &Path) -> Option<(String, String)> {
    // Two lines; once the second is there, the file is complete.
    let text = std::fs::read_to_string(file).ok()?;
    text.trim().split_once('\n').map(|(port, path)| (port.to_owned(), path.to_owned()))
}

/// One page.
pub struct Tab {
    devtools: DevTools,
    id: String,
}

impl Tab {
    /// The value of a JavaScript expression; a promise is awaited.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.devtools.call("Runtime.evaluate", params).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression has a value; on failure, shows what the page shows.
    pub async fn until(&mut self, expression: &str, wanted: impl Into<Value>) {
        let wanted = wanted.into();
        // A page that is still loading has no elements yet: that is not a failure.
        let guarded = format!("(() => {{ try {{ return {expression} }} catch {{ return null }} }})()");
        let reached = try_until(PATIENCE, async || {
            let value = self.eval(&guarded).await;
            if value == wanted { Ok(()) } else { Err(value.to_string()) }
        });
        if let Err(value) = reached.await {
            let page = self.eval("location.href + '\\n' + document.body?.innerText").await;
            panic!("waited in vain: {expression}\n  is     {value}\n  wanted {wanted}\nThe page:\n{page}");
        }
    }

    /// Types into the element with the keyboard, then presses Enter.
    pub async fn enter(&mut self, selector: &str, text: &str) {
        self.eval(&format!("document.querySelector({}).focus()", json!(selector))).await;
        self.devtools.call("Input.insertText", json!({"text": text})).await;
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13});
            self.devtools.call("Input.dispatchKeyEvent", key).await;
        }
    }

    /// Does what loads the page anew, and waits until it is loaded: a question to a page that is just going has no answer.
    pub async fn load_by(&mut self, expression: &str) {
        self.devtools.call("Page.enable", json!({})).await;
        self.eval(expression).await;
        self.devtools.event("Page.loadEventFired").await;
    }

    /// Takes the tab's network away, or gives it back: the page is told as by the machine itself.
    pub async fn set_offline(&mut self, offline: bool) {
        self.devtools.call("Network.enable", json!({})).await;
        let none = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.devtools.call("Network.emulateNetworkConditions", none).await;
    }

    /// Lets the page's clock run ahead: its timers believe that this much time has passed. After that it stands
    /// still, so this is the last thing that a tab does.
    pub async fn pass(&mut self, time: Duration) {
        let budget = u64::try_from(time.as_millis()).unwrap();
        let policy = json!({"policy": "advance", "budget": budget});
        self.devtools.call("Emulation.setVirtualTimePolicy", policy).await;
        self.devtools.event("Emulation.virtualTimeBudgetExpired").await;
    }
}
