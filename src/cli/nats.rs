//! `natter nats service`: gives a service its account in the files of `nats/`, and takes it away again.

mod files;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use nkeys::{KeyPair, KeyPairType};

use self::files::{Entry, Proof, services};
use super::{Global, print, report::Hint};
use crate::model::UserId;

/// Arguments of `natter nats`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, subcommand_required = true)]
pub(super) struct Args {
    #[command(subcommand)]
    about: About,
}

#[derive(Debug, clap::Subcommand)]
enum About {
    /// Give a service its account, or take it away
    #[command(subcommand)]
    Service(Service),
}

#[derive(Debug, clap::Subcommand)]
enum Service {
    /// Write a service's permissions, its key and its line in accounts.conf
    #[command(after_help = EXAMPLES)]
    Add(Add),
    /// Remove a service's permissions and its line in accounts.conf
    Remove(Remove),
    /// Print the services that have an account, one per line
    List(Folder),
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// The folder with accounts.conf
    #[arg(long, value_name = "FOLDER", default_value = "nats")]
    dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Its name: the `from` of what it sends, so no user may have it
    name: UserId,
    #[command(flatten)]
    folder: Folder,
    /// Where to write its secret key [default: its name with .nk]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["public_key", "password"])]
    key_file: Option<PathBuf>,
    /// The public half of a key that the service has already
    #[arg(long, value_name = "U…", conflicts_with = "password")]
    public_key: Option<String>,
    /// Let it sign in with a password, which each NATS server takes from its environment
    #[arg(long)]
    password: bool,
}

#[derive(Debug, clap::Args)]
struct Remove {
    /// Its name
    name: UserId,
    #[command(flatten)]
    folder: Folder,
}

const EXAMPLES: &str = "\
Examples:
  natter nats service add shop                         a key in shop.nk; then reload the NATS servers
  natter nats service add shop --dir /etc/natter/nats  files in another folder
  natter nats service add shop --public-key UDXU4RCS…  for a key of the service's own
  natter nats service add shop --password              with NATTER_SHOP_PASSWORD in the servers' environment
  natter nats service remove shop
  natter nats service list";

/// Runs the command.
///
/// # Errors
/// When the files cannot be read, changed or written, or the service is there already, or is not.
pub(super) async fn run(args: Args, _global: &Global) -> anyhow::Result<ExitCode> {
    let About::Service(service) = args.about;
    match service {
        Service::Add(args) => add(&args)?,
        Service::Remove(args) => remove(&args)?,
        Service::List(folder) => {
            for name in services(&accounts(&folder)?) {
                print(name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(args: &Add) -> anyhow::Result<()> {
    let Add { name, folder, public_key, password, .. } = args;
    let entry = Entry::new(name)?;
    let (accounts, path) = (accounts(folder)?, folder.dir.join("services").join(entry.file()));
    let key_file = args.key_file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.nk")));
    let made = (public_key.is_none() && !password).then(KeyPair::new_user);
    let public = match (&made, public_key) {
        (Some(key), _) => Some(key.public_key()),
        (None, Some(given)) => Some(checked(given)?),
        (None, None) => None,
    };
    let proof = public.as_deref().map_or(Proof::Password, Proof::Key);
    let with = entry.added_to(&accounts, proof)?;
    if let Some(key) = &made {
        write_secret(&key_file, &key.seed().context("cannot make a key")?)?;
    }
    // Last what names the others: a server that reloads in between finds all that is named.
    fs::create_dir_all(folder.dir.join("services"))
        .and_then(|()| replace(&path, &entry.text()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    write_accounts(folder, &with)?;
    print(&format!("{name} is in the files. To let it in:"))?;
    if matches!(proof, Proof::Password) {
        print(&format!(
            "  1. set {} in the environment of each NATS server, a word that begins with a letter, and restart them one by one",
            entry.variable()
        ))?;
        print(&format!("  2. the service signs in as user {name} with that password"))?;
    } else {
        print(
            "  1. let each NATS server reload its files: nats-server --signal reload, or docker compose kill -s HUP nats-1 nats-2 nats-3",
        )?;
        let key =
            made.map_or_else(|| "its key".to_owned(), |_| format!("the key in {}; keep it secret", key_file.display()));
        print(&format!("  2. the service signs in with {key}"))?;
    }
    print(&format!("  3. its client library needs the inbox prefix _INBOX_{name}"))
}

fn remove(args: &Remove) -> anyhow::Result<()> {
    let Remove { name, folder } = args;
    let entry = Entry::new(name)?;
    write_accounts(folder, &entry.removed_from(&accounts(folder)?)?)?;
    let path = folder.dir.join("services").join(entry.file());
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    print(&format!("{name} is gone from the files; it is cut off when the NATS servers reload them"))
}

fn accounts(folder: &Folder) -> anyhow::Result<String> {
    let path = folder.dir.join("accounts.conf");
    fs::read_to_string(&path).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
        Hint::on(error, "name the folder with the configuration of your NATS servers with --dir")
    })
}

fn write_accounts(folder: &Folder, text: &str) -> anyhow::Result<()> {
    let path = folder.dir.join("accounts.conf");
    replace(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The old file or the new one is there at any moment, with the rights that the old one had.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    let rights = fs::metadata(path).map_or_else(|_| readable(), |old| old.permissions());
    file.as_file().set_permissions(rights)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The NATS servers run as somebody else.
fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

fn write_secret(path: &Path, seed: &str) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(format!("{seed}\n").as_bytes()).and_then(|()| file.sync_all())).map_err(
        |error| {
            let error = anyhow::Error::new(error).context(format!("cannot write the key to {}", path.display()));
            Hint::on(error, "name another file with --key-file; one that is there is never overwritten")
        },
    )
}

fn checked(public: &str) -> anyhow::Result<String> {
    let key = KeyPair::from_public_key(public).ok().filter(|key| key.key_pair_type() == KeyPairType::User);
    let key =
        key.with_context(|| format!("--public-key: {public:?} is not the public key of a user, which begins with U"))?;
    Ok(key.public_key())
}
