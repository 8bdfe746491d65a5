//! `natter nats service`: what it writes, tried by a real server and by the services themselves.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_nats::{Client, ConnectOptions, Event, connection::State};
use natter::nats_server::{NatsServer, ServerOptions};
use nkeys::KeyPair;

use crate::harness::{natter::natter, process::output, until};

struct Shell {
    folder: tempfile::TempDir,
    server: NatsServer,
}

impl Shell {
    /// A server with the files of `nats/`, in whose folder commands run.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
        Self { folder, server }
    }

    /// What the command printed, and whether it was content.
    async fn service(&self, args: &[&str]) -> (bool, String) {
        let mut command = natter(self.folder.path());
        command.args(["nats", "service"]).args(args);
        let output = output(command).await;
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    async fn good(&self, args: &[&str]) -> String {
        let (good, said) = self.service(args).await;
        assert!(good, "{args:?}: {said}");
        said
    }

    async fn refused(&self, args: &[&str], reason: &str) {
        let before = self.accounts();
        let (good, said) = self.service(args).await;
        assert!(!good && said.contains(reason), "{args:?}: {said}");
        assert_eq!(self.accounts(), before, "{args:?} changed the accounts");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn accounts(&self) -> String {
        fs::read_to_string(self.path("nats/accounts.conf")).unwrap()
    }

    fn reload(&self) {
        let pid = i32::try_from(self.server.pid()).unwrap();
        // SAFETY: kill touches no memory; the server is this test's own child.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    }

    async fn connect(&self, name: &str, seed: &str) -> Option<Guest> {
        let refused = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&refused);
        let options = ConnectOptions::with_nkey(seed.to_owned()).custom_inbox_prefix(format!("_INBOX_{name}"));
        let options = options.event_callback(move |event| {
            if matches!(&event, Event::ServerError(e) if e.to_string().contains("Permissions Violation")) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            std::future::ready(())
        });
        Some(Guest { client: options.connect(self.server.client_url()).await.ok()?, refused })
    }
}

struct Guest {
    client: Client,
    refused: Arc<AtomicUsize>,
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_let_in_by_a_reload_and_cut_off_by_one() {
    let shell = Shell::start().await;
    let passwords = shell.server.passwords();
    let billing = ConnectOptions::with_user_and_password("billing".into(), passwords.billing.clone());
    let billing = billing.connect(shell.server.client_url()).await.unwrap();
    let node = ConnectOptions::with_user_and_password("node".into(), passwords.node.clone());
    let node = node.connect(shell.server.client_url()).await.unwrap();
    let mut sent = node.subscribe("natter.send.>").await.unwrap();
    node.flush().await.unwrap();

    let own = KeyPair::new_user();
    let said = shell.good(&["add", "shop"]).await;
    assert!(said.contains("shop.nk") && said.contains("_INBOX_shop"), "{said}");
    assert_eq!(mode(&shell.path("shop.nk")), 0o600);
    shell.good(&["add", "9-lives", "--public-key", &own.public_key()]).await;
    assert!(!shell.path("9-lives.nk").exists());
    assert_eq!(shell.good(&["list"]).await, "billing\nshop\n9-lives\n");
    let seed = fs::read_to_string(shell.path("shop.nk")).unwrap().trim().to_owned();
    assert!(shell.connect("shop", &seed).await.is_none(), "the server has not read the files yet");

    shell.reload();
    let found = parking_lot::Mutex::new(None);
    let connects = async |name: &str, seed: &str| {
        let guest = shell.connect(name, seed).await;
        let is_in = guest.is_some();
        *found.lock() = guest;
        is_in
    };
    until("shop is let in", async || connects("shop", &seed).await).await;
    let shop = found.lock().take().unwrap();
    let lives = shell.connect("9-lives", &own.seed().unwrap()).await.expect("it came with the same reload");
    for (guest, mine, foreign) in [
        (&shop, "natter.send.shop.user.bob", "natter.send.billing.user.bob"),
        (&lives, "natter.send.9-lives.user.bob", "natter.send.shop.user.bob"),
    ] {
        let _refused = guest.client.subscribe("natter.user.>").await.unwrap();
        guest.client.publish(foreign, "forged".into()).await.unwrap();
        guest.client.publish(mine, "own".into()).await.unwrap();
        guest.client.flush().await.unwrap();
        let heard = futures_util::StreamExt::next(&mut sent).await.unwrap();
        assert_eq!(heard.subject.as_str(), mine, "what was published before it was refused");
        until("both were refused", async || guest.refused.load(Ordering::Relaxed) == 2).await;
    }

    shell.good(&["remove", "shop"]).await;
    assert!(!shell.path("nats/services/shop.conf").exists());
    shell.reload();
    until("shop is cut off", async || shop.client.connection_state() != State::Connected).await;
    assert!(shell.connect("shop", &seed).await.is_none());
    for (who, client) in [("billing", &billing), ("9-lives", &lives.client)] {
        client.flush().await.unwrap();
        assert_eq!(client.statistics().connects.load(Ordering::Relaxed), 1, "{who} was dropped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_added_changes_nothing() {
    let shell = Shell::start().await;
    shell.refused(&["add", "billing"], "has a service billing already").await;
    shell.refused(&["add", "Billing"], "do not go together").await;
    shell.refused(&["add", "node"], "not a name for a service").await;
    shell.refused(&["add", "a b"], "a b").await;
    shell.refused(&["add", "shop", "--public-key", "SUAsecret"], "is not the public key of a user").await;
    shell.refused(&["add", "shop", "--dir", "elsewhere"], "--dir").await;
    shell.refused(&["remove", "shop"], "has no service shop").await;
    fs::write(shell.path("shop.nk"), "precious").unwrap();
    shell.refused(&["add", "shop"], "--key-file").await;
    assert_eq!(fs::read_to_string(shell.path("shop.nk")).unwrap(), "precious");
    assert!(!shell.path("nats/services/shop.conf").exists());

    // A password needs the servers' environment, and the server itself says that the files are good.
    let said = shell.good(&["add", "web-shop", "--password"]).await;
    assert!(said.contains("NATTER_WEB_SHOP_PASSWORD"), "{said}");
    let program = natter::nats_server::find(None).unwrap().path;
    let mut check = std::process::Command::new(program);
    check.arg("-t").arg("-c").arg(shell.path("nats/server.conf")).env_clear();
    for name in ["NODE", "OPERATOR", "BILLING", "WEB_SHOP"] {
        check.env(format!("NATTER_{name}_PASSWORD"), "secret");
    }
    check.env("NATTER_NATS_STORE", shell.path("js"));
    let checked = output(check).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
