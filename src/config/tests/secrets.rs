//! Secrets: as they are written, from files, in URLs, never shown; and what a configuration that is read again changes.

use super::*;

#[test]
fn a_password_is_taken_as_it_is_written() {
    for password in ["\"quoted\"", "'single'", "p@ss:w/o?r#d $x${y} %41\\", " spaces ", "a,b", "[1]", "12", "{", "ä"] {
        let config = Config::load(&variables(&[("NATTER_NATS__USER", "u"), ("NATTER_NATS__PASSWORD", password)]));
        assert_eq!(config.unwrap().nats.password.as_ref().map(Secret::expose), Some(password));
    }
    let broken = variables(&[("NATTER_NATS__USER", "u"), ("NATTER_NATS__PASSWORD", "a\u{FFFD}")]);
    assert!(faults(&broken).iter().any(|fault| fault.to_string().starts_with("nats.password is not UTF-8")));
}

#[test]
fn every_secret_may_come_from_a_file() {
    let secrets: Vec<String> = schema::keys().filter(|key| schema::is_secret(key)).collect();
    assert!(secrets.len() >= 5, "{secrets:?}");
    for key in &secrets {
        assert!(schema::is_key(&format!("{key}_file")), "{key} has no file");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let file = |text: &str| {
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap()
    };
    let name = file("p@ss \"word\"\r\n");
    let both = [("NATTER_NATS__USER", "u"), ("NATTER_STORE__KIND", "scylla"), ("NATTER_STORE__SCYLLA__USER", "u")];
    let files = [("NATTER_NATS__PASSWORD_FILE", name), ("NATTER_STORE__SCYLLA__PASSWORD_FILE", name)];
    let loaded = Config::load_with_origins(&variables(&[&both[..], &files[..]].concat())).unwrap();
    let config = &loaded.config;
    for password in [&config.nats.password, &config.store.scylla.password] {
        assert_eq!(password.as_ref().map(Secret::expose), Some("p@ss \"word\""));
    }
    assert_eq!(loaded.origins["nats.password"].to_string(), "NATTER_NATS__PASSWORD_FILE");
    let token = Config::load(&variables(&[("NATTER_NATS__TOKEN_FILE", name)])).unwrap().nats.token;
    assert_eq!(token.as_ref().map(Secret::expose), Some("p@ss \"word\""));

    let told = |pairs: &[(&str, &str)]| faults(&variables(pairs)).iter().map(Fault::to_string).collect::<String>();
    let missing = told(&[("NATTER_NATS__TOKEN_FILE", "/no/such/file")]);
    assert!(missing.contains("nats.token_file = \"/no/such/file\" cannot be read: "), "{missing}");
    assert!(missing.ends_with("[NATTER_NATS__TOKEN_FILE]"), "{missing}");
    let twice = told(&[("NATTER_NATS__TOKEN_FILE", name), ("NATTER_NATS__TOKEN", "t")]);
    assert!(twice.contains("is a second value besides nats.token, keep one"), "{twice}");
    let empty = told(&[("NATTER_NATS__TOKEN_FILE", file("\n"))]);
    assert!(empty.contains("is empty"), "{empty}");
    let alone = told(&[("NATTER_AUTH__HS256_PREVIOUS_SECRET", "0123456789abcdef0123456789abcdef")]);
    assert!(alone.contains("auth.hs256_previous_secret needs auth.hs256_secret or"), "{alone}");
}

#[test]
fn a_password_in_a_url_must_not_end_it() {
    for (url, good) in [
        ("nats://u:p%40s%2Fs%25@h:4222", true),
        ("nats://u:p@ss@h", true),
        ("nats://u:p/w@h", false),
        ("nats://u:p#w@h", false),
        ("nats://u:p?w@h", false),
    ] {
        assert_eq!(Config::load(&variables(&[("NATTER_NATS__URLS", url)])).is_ok(), good, "{url}");
    }
}

#[test]
fn what_needs_a_restart_is_told_and_what_does_not_is_not() {
    let before = Config::default();
    let mut after = before.clone();
    after.auth.hs256_secret = Some(Secret::new("s"));
    after.log.filter = "debug".into();
    after.services.insert(user("billing"), Service::default());
    assert!(before.changed_for_restart(&after).is_empty());
    after.limits.window = 7;
    after.nats.password = Some(Secret::new("p"));
    assert_eq!(before.changed_for_restart(&after), ["nats.password", "limits.window"]);
    let mut again = after.clone();
    again.nats.password = Some(Secret::new("q"));
    assert_eq!(after.changed_for_restart(&again), ["nats (a secret)"]);
}

#[test]
fn keys_come_over_https_or_from_this_machine() {
    for (url, good) in [
        ("https://login.example.org/.well-known/jwks.json", true),
        ("https://[::1]:8443/keys?x=1", true),
        ("http://127.0.0.1:8080/keys", true),
        ("http://[::1]/keys", true),
        ("http://localhost:1/", true),
        ("http://login.example.org/keys", false),
        ("http://localhost.example.org/keys", false),
        ("http://10.0.0.1/keys", false),
        ("https://user:hunter2@login.example.org/", false),
        ("ftp://localhost/keys", false),
        ("login.example.org", false),
        ("/keys", false),
    ] {
        let loaded = Config::load(&variables(&[("NATTER_AUTH__JWKS_URL", url)]));
        assert_eq!(loaded.is_ok(), good, "{url}: {loaded:?}");
        assert!(!format!("{loaded:?}").contains("hunter2"), "{loaded:?}");
    }
    let alone = faults(&variables(&[("NATTER_AUTH__JWKS_COPY_FILE", "x")]));
    assert!(alone[0].to_string().starts_with("auth.jwks_copy_file needs auth.jwks_url"), "{alone:?}");
}

#[test]
fn no_secret_is_ever_shown() {
    let text = "[auth]\nhs256_secret = \"hunter2\"\n[nats]\npassword = 772277\nurls = [\"nats://u:hunter2@h:x\"]\n\
                [store]\nkind = \"scylla\"\n[store.scylla]\npassword = [\"hunter2\"]\n";
    let (_folder, bad) = from_text(text);
    let errors = Config::load(&bad).unwrap_err();
    assert_eq!(errors.0.len(), 4, "{errors}");
    let (_folder, good) = from_text(
        "[auth]\nhs256_secret = \"hunter2hunter2hunter2hunter2hunter2\"\n\
         [nats]\nuser = \"u\"\npassword = \"hunter2\"\nurls = [\"nats://u:hunter2@h\"]\n",
    );
    let loaded = Config::load_with_origins(&good).unwrap();
    assert_eq!(loaded.config.nats.password.as_ref().map(Secret::expose), Some("hunter2"));
    let shown = format!("{errors} {errors:?} {loaded:?} {} {}", loaded.to_toml(), loaded.to_json());
    assert!(!shown.contains("hunter2") && !shown.contains("772277"), "{shown}");
    assert!(shown.contains(MASK));
}
