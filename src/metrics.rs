//! Every metric's name and labels. Called from everywhere.
