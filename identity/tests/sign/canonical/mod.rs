//! Schemes given by configuration: which are refused, the vectors, and what holds for any request.

mod properties;
mod refused;
mod vectors;
