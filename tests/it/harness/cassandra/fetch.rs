//! Where Cassandra and Java come from: Maven once, then a cache that all checkouts share.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const VERSION: &str = "5.0.8";
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// A directory with all of Cassandra's jars, fetched if it does not exist yet.
pub fn jars() -> Result<PathBuf, String> {
    let cache = cache_dir()?;
    let jars = cache.join(format!("cassandra-{VERSION}"));
    if jars.is_dir() {
        return Ok(jars);
    }
    fs::create_dir_all(&cache).map_err(|e| format!("{} cannot be made: {e}", cache.display()))?;
    let fresh = tempfile::Builder::new().prefix("cassandra-fetch-").tempdir_in(&cache).map_err(|e| e.to_string())?;
    let lib = fresh.path().join("lib");
    run_maven(fresh.path(), &lib)?;
    // The first to rename wins; the other's copy is just as good and disappears with its temporary directory.
    match fs::rename(&lib, &jars) {
        Err(e) if !jars.is_dir() => Err(format!("{} cannot be made: {e}", jars.display())),
        _ => Ok(jars),
    }
}

/// A `java` that Cassandra 5 runs on: version 17 or 11.
pub fn java() -> Result<PathBuf, String> {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let installed = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|dir| dir.path().join("bin/java"));
    home.into_iter()
        .chain([PathBuf::from("java")])
        .chain(installed)
        .find(|java| matches!(major_version(java), Some(11 | 17)))
        .ok_or_else(|| "no JDK 17 is installed (Cassandra 5 runs on nothing newer)".to_owned())
}

fn cache_dir() -> Result<PathBuf, String> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("NATTER_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("natter")))
        .or_else(|| Some(set("HOME")?.join(".cache/natter")))
        .ok_or_else(|| "there is no directory for the cache; set NATTER_CACHE".to_owned())
}

fn run_maven(dir: &Path, lib: &Path) -> Result<(), String> {
    let pom = dir.join("pom.xml");
    let text = format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>natter.test</groupId><artifactId>cassandra</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId>
<version>{VERSION}</version></dependency></dependencies></project>"#
    );
    fs::write(&pom, text).map_err(|e| e.to_string())?;
    let out = Command::new("mvn")
        .args(["--batch-mode", "--quiet", PLUGIN, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", lib.display()))
        .arg("--file")
        .arg(&pom)
        .output()
        .map_err(|e| format!("Maven does not start, and Cassandra is not in the cache: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stdout);
    Err(format!("Maven cannot fetch Cassandra: {}", said.lines().next().unwrap_or("it does not say why")))
}

fn major_version(java: &Path) -> Option<u32> {
    let out = Command::new(java).arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    text.split('"').nth(1)?.split('.').next()?.parse().ok()
}
