//! deploy/helm/natter: the chart as helm itself reads and renders it, and what the objects promise.

mod nodes;
mod objects;
mod rendered;
mod values;
