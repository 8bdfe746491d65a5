//! Figures, not checks: run with `--ignored --nocapture` on a release build.
