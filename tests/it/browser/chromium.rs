//! A headless Chromium, and its tabs. One runs for all tests; each has a context of its own in it, as apart from the others as
//! a profile: no storage, lock or cookie is shared.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

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

/// The process; the kernel ends it with the tests.
struct Running {
    /// Where it takes commands.
    host: String,
    path: String,
    _process: Process,
}

async fn running() -> &'static Running {
    static ONE: OnceCell<Running> = OnceCell::const_new();
    ONE.get_or_init(Running::start).await
}

impl Running {
    /// Starts it and waits until it accepts commands.
    async fn start() -> Self {
        let profile = fresh_profile();
        let mut command = Command::new(find().unwrap());
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        command.stdin(Stdio::null());
        let mut process = Process::start(command);
        let file = profile.join("DevToolsActivePort");
        let written = async || port_and_path(&file).is_some();
        process.ready_within(PATIENCE, "the browser takes commands", written).await;
        let (port, path) = port_and_path(&file).unwrap();
        Self { host: format!("ws://127.0.0.1:{port}"), path, _process: process }
    }
}

/// A folder named after this process. What lives as long as the tests is never dropped, so the folders of earlier runs are
/// removed here.
fn fresh_profile() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chromium");
    let profile = root.join(std::process::id().to_string());
    std::fs::create_dir_all(&profile).unwrap();
    for entry in std::fs::read_dir(&root).unwrap().flatten() {
        let is_dead = !Path::new("/proc").join(entry.file_name()).exists();
        if is_dead && Path::new("/proc/self").exists() {
            // Another run may be at it, too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    profile
}

/// A context of its own in the running browser; dropping it closes its tabs and forgets all that they kept.
pub struct Browser {
    devtools: DevTools,
    host: &'static str,
    context: Value,
}

impl Browser {
    /// A new context.
    pub async fn start() -> Self {
        let running = running().await;
        let mut devtools = DevTools::connect(&format!("{}{}", running.host, running.path)).await;
        let made = devtools.call("Target.createBrowserContext", json!({"disposeOnDetach": true})).await;
        Self { devtools, host: &running.host, context: made["browserContextId"].clone() }
    }

    /// Opens a tab in its own window, so that every page counts as visible.
    pub async fn open(&mut self, url: &str) -> Tab {
        let window = json!({"url": "about:blank", "newWindow": true, "browserContextId": self.context});
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
        self.type_into(selector, text).await;
        self.press("Enter").await;
    }

    /// Types into the element with the keyboard.
    pub async fn type_into(&mut self, selector: &str, text: &str) {
        self.eval(&format!("document.querySelector({}).focus()", json!(selector))).await;
        self.devtools.call("Input.insertText", json!({"text": text})).await;
    }

    /// Presses a key, named as in `KeyboardEvent.key`.
    pub async fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            "ArrowUp" => (38, ""),
            "ArrowDown" => (40, ""),
            other => panic!("no code is known for {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if !text.is_empty() {
                event["text"] = text.into();
            }
            self.devtools.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Clicks the element, once it is there.
    pub async fn click(&mut self, selector: &str) {
        let selector = json!(selector);
        self.until(&format!("document.querySelector({selector}).checkVisibility()"), true).await;
        self.eval(&format!("document.querySelector({selector}).click()")).await;
    }

    /// Gives the page the size of a phone's or of another screen.
    pub async fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// What a person prefers: `light` or `dark`.
    pub async fn prefer(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools.call("Emulation.setEmulatedMedia", features).await;
    }

    /// How much of a processor the page's main thread has taken so far; what else runs on the machine does not count.
    pub async fn busy(&mut self) -> Duration {
        self.devtools.call("Performance.enable", json!({"timeDomain": "threadTicks"})).await;
        let answer = self.devtools.call("Performance.getMetrics", json!({})).await;
        let metric = answer["metrics"].as_array().unwrap().iter().find(|metric| metric["name"] == "TaskDuration");
        Duration::from_secs_f64(metric.unwrap()["value"].as_f64().unwrap())
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
