//! How this node proves to a server who it is. Called while a connection is made, each time anew: files that were changed
//! count from the next connection on.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;

use super::ops::{Connect, Info, Proof};
use crate::bus::options::{NatsAuth, NatsOptions};

/// The CONNECT for a server that said `info`.
///
/// # Errors
/// In words: a file that cannot be read, or a key that cannot sign.
pub(super) fn connect(options: &NatsOptions, info: &Info, is_encrypted: bool) -> Result<Connect, String> {
    Ok(Connect {
        verbose: false,
        pedantic: false,
        tls_required: is_encrypted,
        name: format!("natter node {}", options.node),
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: false,
        headers: true,
        no_responders: true,
        proof: proof(&options.auth, info.nonce.as_deref().unwrap_or_default())?,
    })
}

fn proof(auth: &NatsAuth, nonce: &str) -> Result<Proof, String> {
    Ok(match auth {
        NatsAuth::None => Proof::default(),
        NatsAuth::Password { user, password } => {
            Proof { user: Some(user.clone()), password: Some(password.clone()), ..Proof::default() }
        }
        NatsAuth::Token(token) => Proof { token: Some(token.clone()), ..Proof::default() },
        NatsAuth::NKey(path) => {
            let seed = std::fs::read_to_string(path);
            let seed = seed.map_err(|error| format!("cannot read the NKey file {}: {error}", path.display()))?;
            let keys = keys(seed.trim())?;
            Proof { nkey: Some(keys.public_key()), signature: Some(signature(&keys, nonce)?), ..Proof::default() }
        }
        NatsAuth::Creds(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("cannot read the credentials file {}: {error}", path.display()))?;
            let (jwt, seed) = creds(&text).ok_or_else(|| {
                format!("the credentials file {} does not hold a user's JWT and an NKey seed", path.display())
            })?;
            let keys = keys(seed)?;
            Proof { jwt: Some(jwt.to_owned()), signature: Some(signature(&keys, nonce)?), ..Proof::default() }
        }
    })
}

fn keys(seed: &str) -> Result<KeyPair, String> {
    KeyPair::from_seed(seed).map_err(|error| format!("this is no NKey seed: {error}"))
}

fn signature(keys: &KeyPair, nonce: &str) -> Result<String, String> {
    let signed = keys.sign(nonce.as_bytes()).map_err(|error| format!("the NKey seed does not sign: {error}"))?;
    Ok(BASE64URL_NOPAD.encode(&signed))
}

/// The JWT and the seed: the first two blocks between lines of dashes.
fn creds(text: &str) -> Option<(&str, &str)> {
    let is_rule = |line: &str| line.starts_with("---");
    let mut lines = text.lines().map(str::trim);
    let mut block = || {
        lines.find(|line| is_rule(line))?;
        let content = lines.find(|line| !line.is_empty())?;
        lines.find(|line| is_rule(line))?;
        (!is_rule(content)).then_some(content)
    };
    Some((block()?, block()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDS: &str = "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n\
        ************************* IMPORTANT *************************\nNKEY Seed printed below can be used to sign.\n\n\
        -----BEGIN USER NKEY SEED-----\nSUAx\n------END USER NKEY SEED------\n\n***\n";

    fn with(auth: NatsAuth, nonce: Option<&str>) -> Result<Connect, String> {
        let options = NatsOptions { auth, ..NatsOptions::new("n1", ["nats://x"]) };
        connect(&options, &Info { nonce: nonce.map(str::to_owned), ..Info::default() }, false)
    }

    #[test]
    fn credentials_files_are_read_with_either_line_end() {
        assert_eq!(creds(CREDS), Some(("eyJ0.eyJq.c2ln", "SUAx")));
        assert_eq!(creds(&CREDS.replace('\n', "\r\n")), Some(("eyJ0.eyJq.c2ln", "SUAx")));
        for bad in ["", "eyJ0.eyJq.c2ln", &CREDS[..100], "---\n---\n---\n---\n---\n---\n"] {
            assert_eq!(creds(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_key_signs_the_servers_nonce() {
        let (folder, keys) = (tempfile::tempdir().unwrap(), KeyPair::new_user());
        let path = folder.path().join("node.nk");
        std::fs::write(&path, keys.seed().unwrap() + "\n").unwrap();
        let signed = |proof: &Proof| BASE64URL_NOPAD.decode(proof.signature.as_ref().unwrap().as_bytes()).unwrap();
        let proof = with(NatsAuth::NKey(path), Some("n0nce")).unwrap().proof;
        assert_eq!((proof.nkey.as_ref(), &proof.jwt), (Some(&keys.public_key()), &None));
        keys.verify(b"n0nce", &signed(&proof)).unwrap();
        let path = folder.path().join("node.creds");
        std::fs::write(&path, CREDS.replace("SUAx", &keys.seed().unwrap())).unwrap();
        let proof = with(NatsAuth::Creds(path), Some("other")).unwrap().proof;
        assert_eq!((proof.jwt.as_deref(), &proof.nkey), (Some("eyJ0.eyJq.c2ln"), &None));
        keys.verify(b"other", &signed(&proof)).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for auth in [NatsAuth::NKey("/nonexistent/k".into()), NatsAuth::Creds("/nonexistent/k".into())] {
            assert!(with(auth, None).unwrap_err().contains("/nonexistent/k"));
        }
        let source = std::path::PathBuf::from(file!());
        assert!(with(NatsAuth::NKey(source.clone()), None).unwrap_err().contains("no NKey seed"));
        assert!(with(NatsAuth::Creds(source), None).unwrap_err().contains("does not hold"));
    }
}
