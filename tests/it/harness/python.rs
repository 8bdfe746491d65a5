//! A Python with a package from PyPI, in a virtual environment that is kept between runs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// The interpreter that has `package`, a name of PyPI and its versions, whose module is `module`; `Err` says why there
/// is none.
pub fn python_with(module: &str, package: &str) -> Result<PathBuf, String> {
    // Tests run at the same time, and it is made once.
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{module}"));
    let python = folder.join("bin/python");
    let run = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{} {args:?}: {said}", program.display())) }
    };
    if run(&python, &["-c", &format!("import {module}")]).is_ok() {
        return Ok(python);
    }
    run(Path::new("python3"), &["-m", "venv", folder.to_str().unwrap_or_default()])?;
    run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package])?;
    Ok(python)
}
