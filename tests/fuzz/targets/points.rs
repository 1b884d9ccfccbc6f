//! The target `points` under libFuzzer.

#![no_main]
// The macro defines what libFuzzer calls.
#![allow(unsafe_code)]

cairn_fuzz::program!("points");
