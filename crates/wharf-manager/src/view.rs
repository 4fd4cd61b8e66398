//! What clients are shown: answers made of a snapshot, or an engine's answer with the fleet's view patched in.
